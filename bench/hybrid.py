# SPDX-License-Identifier: GPL-2.0-or-later
"""Ours: hybrid-cpe and hybrid-hag as configured by default."""

from bench.peer import Peer
from lab.daemons import start_daemons
from lab.node import Node


class Hybrid(Peer):
    name = "hybrid-access"

    def start(self) -> None:
        start_daemons(self.lab)

    @property
    def joining(self) -> Node:
        return self.lab.cpe
