# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer with what it is measured with: its lab, a web server, iperf3."""

import contextlib
from types import TracebackType
from typing import Self

from bench.peer import Peer
from lab.access import Kind
from lab.servers import IperfServer, WebServer
from lab.topology import Lab

PAGE = "page"
PAGE_SIZE = 1024  # bytes


class Bed:
    """A context manager: inside, the peer is ready, over accesses that are as fast as the machine."""

    def __init__(self, peer: type[Peer], family: int = 4) -> None:
        self.family = family
        self.lab = Lab(Kind.DIRECT)
        self.peer = peer(self.lab, family)
        self._exit = contextlib.ExitStack()

    @property
    def name(self) -> str:
        return self.peer.name

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.enter_context(self.lab)
            self.peer.start()
            self.web = WebServer(self.lab.server)
            self.web.publish(PAGE, PAGE_SIZE)
            self.iperf = IperfServer(self.lab.server, under=self.peer.under)
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def server(self) -> str:
        """The server's address."""
        return self.lab.server.address("core", self.family)

    def box_pids(self) -> list[int]:
        """The processes of both boxes."""
        return [*self.lab.cpe.pids(), *self.lab.hag.pids()]
