# SPDX-License-Identifier: GPL-2.0-or-later
"""Ours: hybrid-cpe and hybrid-hag, as configured by default or with less room for each connection; all links carry."""

from bench.peer import Peer
from lab.daemons import NONE, cpe_daemon, hag_daemon
from lab.node import Node


class Hybrid(Peer):
    name = "hybrid-access"
    flow_buffer: str | None = None  # the option of both boxes

    def start(self) -> None:
        options = NONE if self.flow_buffer is None else {"flow_buffer": self.flow_buffer}
        hag_daemon(self.lab, options).start()
        cpe_daemon(self.lab, options).start()

    @property
    def joining(self) -> Node:
        return self.lab.cpe


class Buffer4M(Hybrid):
    name = "flow_buffer 4M"
    flow_buffer = "4M"


class Buffer2M(Hybrid):
    name = "flow_buffer 2M"
    flow_buffer = "2M"


class Buffer1M(Hybrid):
    name = "flow_buffer 1M"
    flow_buffer = "1M"


class Buffer32M(Hybrid):
    name = "flow_buffer 32M"
    flow_buffer = "32M"
