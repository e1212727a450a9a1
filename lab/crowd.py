# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of connections from the client to echo servers, that are open at the same time and mostly say nothing."""

import contextlib
import errno
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from lab.errors import LabError
from lab.topology import Lab

AT_ONCE = 100  # connections that are being opened
TIMEOUT = 30.0  # seconds without any progress
SIZE = 16  # bytes of a message
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: a port may lead to several servers

# Addresses that the server has besides its own. Which worker a connection is for may depend on its addresses alone.
MANY = {4: "203.0.113.128/25", 6: "2001:db8:3001::/121"}
COUNT = 120


def address(family: int, number: int) -> str:
    """`number` up to 126; the crowd uses those below COUNT."""
    return f"203.0.113.{129 + number}" if family == 4 else f"2001:db8:3001::{1 + number:x}"


def bring_addresses(lab: Lab, family: int) -> None:
    """The server answers to them from now on."""
    lab.server.configure([f"route replace local {MANY[family]} dev lo"])
    lab.hag.configure([f"route replace {MANY[family]} via {lab.server.address('core', family)}"])


class Crowd:
    """The connections. Every method raises LabError if one of them fails."""

    def __init__(self, lab: Lab, family: int, port: int, device: str = "lan") -> None:
        """`device` is the client's: what leaves its guest LAN is not bonded. Brings the addresses, if nobody has."""
        bring_addresses(lab, family)
        self._lab = lab
        self._family = socket.AF_INET6 if family == 6 else socket.AF_INET
        self._source = lab.client.address(device, family)
        self._targets = [address(family, number) for number in range(COUNT)]
        self._port = port
        self._open: list[socket.socket] = []
        self._begun = 0
        self._said = 0  # messages so far, so that each is another

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, count: int) -> None:
        """Opens so many more."""
        begun = 0
        with contextlib.closing(select.epoll()) as poll:
            waiting: dict[int, socket.socket] = {}
            while begun < count or waiting:
                while begun < count and len(waiting) < AT_ONCE:
                    one = self._begin()
                    waiting[one.fileno()] = one
                    poll.register(one, select.EPOLLOUT)
                    begun += 1
                for descriptor in _events(poll, f"{len(waiting)} of {len(self)} connections do not open"):
                    one = waiting.pop(descriptor)
                    poll.unregister(descriptor)
                    if error := one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        raise LabError(f"a connection fails after {len(self)}: {errno.errorcode[error]}")
                    self._open.append(one)

    def exchange(self, first: int | None = None, rate: float = 5000.0) -> list[float]:
        """A message on each of the `first` ones (all if not said), at so many a second; seconds until its echo.

        LabError if an echo is not, to the byte, what was said on its connection.
        """
        speakers = self._open[:first]
        said: dict[int, tuple[bytes, float]] = {}
        heard: dict[int, bytes] = {}
        took = []
        sent, start = 0, time.monotonic()
        with contextlib.closing(select.epoll()) as poll:
            by_number = {one.fileno(): one for one in speakers}
            while sent < len(speakers) or said:
                while sent < len(speakers) and sent <= (time.monotonic() - start) * rate:
                    one = speakers[sent]
                    sent += 1
                    self._said += 1
                    message = self._said.to_bytes(SIZE, "big")
                    said[one.fileno()], heard[one.fileno()] = (message, time.monotonic()), b""
                    poll.register(one, select.EPOLLIN)
                    one.send(message)
                due = start + sent / rate - time.monotonic() if sent < len(speakers) else TIMEOUT
                for descriptor in _events(poll, f"{len(said)} echoes do not come", max(0.0, due)):
                    heard[descriptor] += _received(by_number[descriptor])
                    message, when = said[descriptor]
                    if not message.startswith(heard[descriptor]):
                        raise LabError(f"an echo of {message.hex()} is {heard[descriptor].hex()}")
                    if len(heard[descriptor]) == SIZE:
                        took.append(time.monotonic() - when)
                        poll.unregister(descriptor)
                        del said[descriptor]
        return took

    @contextlib.contextmanager
    def speaking(self, first: int, rate: float) -> Iterator[None]:
        """Meanwhile so many of them say something one after the other, in another thread, again and again."""
        over, failures = threading.Event(), list[LabError]()

        def speak() -> None:
            try:
                while not over.is_set():
                    self.exchange(first, rate)
            except LabError as error:
                failures.append(error)

        speaker = threading.Thread(target=speak, daemon=True)
        speaker.start()
        try:
            yield
        finally:
            over.set()
            speaker.join()
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Closes them, in order."""
        for one in self._open:
            one.close()
        self._open.clear()

    def _begin(self) -> socket.socket:
        with self._lab.client.entered():
            one = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        one.bind((self._source, 0))
        self._begun += 1
        error = one.connect_ex((self._targets[self._begun % len(self._targets)], self._port))
        if error not in (0, errno.EINPROGRESS):
            raise LabError(f"no connection after {len(self)}: {errno.errorcode[error]}")
        return one


def _events(poll: select.epoll, failure: str, within: float = TIMEOUT) -> Iterable[int]:
    found = poll.poll(min(within, TIMEOUT), 512)
    if not found and within >= TIMEOUT:
        raise LabError(f"{failure} for {TIMEOUT:g} s")
    return [descriptor for descriptor, _ in found]


def _received(one: socket.socket) -> bytes:
    try:
        data = one.recv(SIZE)
    except OSError as error:
        raise LabError(f"a connection is lost: {error.strerror}") from None
    if not data:
        raise LabError("the server has ended a connection")
    return data
