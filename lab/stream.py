# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes that flow from one end of a connection to the other for as long as it is watched, and when they arrived."""

import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from lab.access import Way
from lab.connect import TIMEOUT, connect
from lab.errors import LabError
from lab.topology import Lab

BLOCK = 1 << 14
LATE = 0.02  # seconds by which one that is held up is late, and catches up, at most
_PORT = 7100
_PATTERN = random.Random(7100).randbytes(1 << 20)  # random, or an option of TCP could be mistaken for data of another


class Stream:
    """What has flowed so far. Both ends are in threads of this process, so that they have one clock."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self._source = source
        self._sink = sink
        self._stopping = threading.Event()
        self._failures: list[OSError] = []
        self._digests = {"sent": hashlib.sha256(), "received": hashlib.sha256()}
        self.rate: float | None = None  # bit/s that are sent; None is as fast as it goes
        self.sent = 0
        self.received = 0
        self._arrivals: list[float] = []
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def longest_gap(self, start: float, end: float) -> float:
        """Seconds without a byte, at most, between two times (time.monotonic)."""
        times = [start, *(when for when in list(self._arrivals) if start < when < end), end]
        return max(later - sooner for sooner, later in pairwise(times))

    def end(self) -> int:
        """Ends it and gives the bytes that were lost; LabError if it broke, or other bytes arrived than were sent."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(4 * TIMEOUT)
        if self._failures:
            raise LabError(f"the connection ended with: {self._failures[0]}")
        lost = self.sent - self.received
        if lost == 0 and self._digests["sent"].digest() != self._digests["received"].digest():
            raise LabError("other bytes arrived than were sent")
        return lost

    def _send(self) -> None:
        due = time.monotonic()
        try:
            while not self._stopping.is_set():
                if self.rate is not None:
                    due = max(due + 8 * BLOCK / self.rate, time.monotonic() - LATE)
                    time.sleep(max(0.0, due - time.monotonic()))
                start = self.sent % len(_PATTERN)
                count = self._source.send(_PATTERN[start : start + BLOCK])
                self._digests["sent"].update(_PATTERN[start : start + count])
                self.sent += count
            self._source.shutdown(socket.SHUT_WR)
        except OSError as failure:
            self._failures.append(failure)

    def _receive(self) -> None:
        try:
            while block := self._sink.recv(4 * BLOCK):
                self._arrivals.append(time.monotonic())
                self._digests["received"].update(block)
                self.received += len(block)
        except OSError as failure:
            self._failures.append(failure)


@contextmanager
def flowing(lab: Lab, family: int, way: Way) -> Iterator[Stream]:
    """A stream between client and server, down or up, on a connection of its own."""
    with lab.server.entered(), socket.create_server(("::", _PORT), family=socket.AF_INET6, dualstack_ipv6=True) as here:
        client, _ = connect(lab, family, _PORT)
        with client, here.accept()[0] as server:
            for end in (client, server):
                end.settimeout(4 * TIMEOUT)
            yield Stream(server, client) if way == "down" else Stream(client, server)
