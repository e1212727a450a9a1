# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection that carries as much as it can, and what of that arrives: bytes that nobody keeps or looks at."""

import socket
import struct
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager

from lab.access import Way
from lab.connect import TIMEOUT, connect
from lab.errors import LabError
from lab.topology import Lab

PORT = 7200
_BLOCK = bytes(1 << 18)
_RESET = struct.pack("ii", 1, 0)


class Bulk:
    """What has arrived so far. Both ends are in threads of this process, so that they have one clock."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.received = 0  # bytes
        self.broken = ""
        self._times: list[float] = []
        self._totals: list[int] = []
        self._ends = (source, sink)
        work = ((self._send, source), (self._receive, sink))
        self._threads = [threading.Thread(target=does, args=(end,), daemon=True) for does, end in work]
        for thread in self._threads:
            thread.start()

    def rate(self, start: float, end: float) -> float:
        """bit/s between two times (time.monotonic) in the past. LabError if the connection has broken by then."""
        if self.broken:
            raise LabError(f"the connection ended with: {self.broken}")
        return (self._arrived_by(end) - self._arrived_by(start)) * 8 / (end - start)

    def close(self) -> None:
        """With RST: what hosts and boxes still hold would flow beside whatever is measured next."""
        for end in self._ends:
            end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT)
        for end in self._ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()

    def _arrived_by(self, when: float) -> int:
        index = bisect_right(self._times, when)
        return self._totals[index - 1] if index else 0

    def _send(self, source: socket.socket) -> None:
        try:
            while True:
                source.send(_BLOCK)
        except OSError as error:
            self.broken = str(error)

    def _receive(self, sink: socket.socket) -> None:
        block = bytearray(1 << 18)
        try:
            while size := sink.recv_into(block):
                self.received += size
                self._totals.append(self.received)
                self._times.append(time.monotonic())
            self.broken = "no more data"
        except OSError as error:
            self.broken = str(error)


@contextmanager
def bulk(lab: Lab, family: int, way: Way) -> Iterator[Bulk]:
    """One between client and server, down or up, by whatever way connections of the LAN take now."""
    with lab.server.entered(), socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True) as here:
        client, _ = connect(lab, family, PORT)
        here.settimeout(TIMEOUT)
        server, _ = here.accept()
    for end in (client, server):
        end.settimeout(None)
    flow = Bulk(server, client) if way == "down" else Bulk(client, server)
    try:
        yield flow
    finally:
        flow.close()
