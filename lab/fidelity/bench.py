# SPDX-License-Identifier: GPL-2.0-or-later
"""What a row works with: a running pair, and both ends of connections in its hands."""

import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from lab.access import Kind
from lab.bonded import Pair
from lab.daemons import Daemon
from lab.node import Node

Via = Literal["lan", "guest"]  # bonded, or forwarded as ever

PATIENCE = 10.0  # seconds that a socket waits for what should take milliseconds
BLOCK = 1 << 16
TRIES = 3  # of what is to be in time
GLANCE = 0.02  # seconds of looking whether a daemon does something

T = TypeVar("T")


class Mismatch(Exception):
    """The pair can be told from plain forwarding; the text says by what."""


def expect(condition: object, otherwise: str) -> None:
    """Raises Mismatch with that text unless the condition holds."""
    if not condition:
        raise Mismatch(otherwise)


def equal(what: str, seen: object, wanted: object) -> None:
    expect(seen == wanted, f"{what} is {seen!r} instead of {wanted!r}")


def punctual(late: Callable[[], float], slack: float) -> None:
    """Expects that what `late` does, and gives the delay of in seconds, is within `slack` in one of three tries.

    What others do on the machine may hold one up; a delay of ours is in all of them.
    """
    delays: list[float] = []
    while len(delays) < TRIES:
        delays.append(late())
        if delays[-1] <= slack:
            return
    raise Mismatch(f"it comes {', '.join(f'{delay * 1000:.0f}' for delay in delays)} ms late, {TRIES} times in a row")


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of one connection."""

    client: socket.socket
    server: socket.socket


@dataclass(frozen=True, slots=True)
class Received:
    """All that came until the end: how much, its hash, and how it ended: 'FIN', 'RST', 'timeout' or 'open'."""

    size: int
    sha256: str
    ending: str


def direct() -> Pair:
    """For rows to share: accesses as fast as the machine, so that what takes time is the pair."""
    return Pair(Kind.DIRECT)


class Bench:
    """A context manager: whatever it opened is closed at exit, with RST."""

    def __init__(self, pair: Pair, family: int) -> None:
        self.pair = pair
        self.lab = pair.lab
        self.cpe: Daemon = pair.cpe
        self.hag: Daemon = pair.hag
        self.family = family
        self._exit = contextlib.ExitStack()
        self._logged = {daemon.role: len(daemon.log) for daemon in (self.cpe, self.hag)}
        self._sockets = {daemon.role: sockets(daemon) for daemon in (self.cpe, self.hag)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._exit.close()

    @property
    def server_address(self) -> str:
        return self.lab.server.address("core", self.family)

    def undo(self, work: Callable[[], object]) -> None:
        """Does this at exit."""
        self._exit.callback(work)

    def tcp(self, node: Node, *options: tuple[int, int, int | bytes]) -> socket.socket:
        """A TCP socket on `node`; closing it means RST unless it has ended in order."""
        with node.entered():
            sock = socket.socket(socket.AF_INET6 if self.family == 6 else socket.AF_INET)
        self._exit.callback(sock.close)
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in options:
            sock.setsockopt(*option)
        return sock

    def listen(self, port: int = 0, *options: tuple[int, int, int | bytes], backlog: int = 64) -> socket.socket:
        """A listener on the server."""
        listener = self.tcp(self.lab.server, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), *options)
        listener.bind((self.server_address, port))
        listener.listen(backlog)
        return listener

    def dial(self, port: int, via: Via = "lan", *options: tuple[int, int, int | bytes]) -> socket.socket:
        """A client's socket that is connected to that port of the server."""
        client = self.client(via, *options)
        client.connect((self.server_address, port))
        return client

    def client(self, via: Via = "lan", *options: tuple[int, int, int | bytes]) -> socket.socket:
        """A client's socket, not connected."""
        client = self.tcp(self.lab.client, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), *options)
        client.bind((self.lab.client.address(via, self.family), 0))
        return client

    def connect(
        self,
        via: Via = "lan",
        listener: socket.socket | None = None,
        options: Sequence[tuple[int, int, int | bytes]] = (),
    ) -> Ends:
        """A connection with both its ends; to a listener of its own unless one is given. `options` are the client's."""
        listener = listener or self.listen()
        client = self.dial(listener.getsockname()[1], via, *options)
        server = listener.accept()[0]
        self._exit.callback(server.close)
        server.settimeout(PATIENCE)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Ends(client, server)

    def bonded(self, ends: Ends | None = None) -> None:
        """Expects that both daemons have bonded connections open; that there are flows at all proves nothing."""
        for daemon in (self.cpe, self.hag):
            flows = self.flows(daemon)
            if ends is not None:
                name = ends.client.getsockname() if daemon is self.cpe else ends.server.getpeername()
                flows = [flow for flow in flows if (flow["client"], flow["client_port"]) == name[:2]]
            expect(flows and all(flow["bonded"] for flow in flows), f"{daemon.name} does not bond it")

    def flows(self, daemon: Daemon) -> list[dict[str, Any]]:
        found: Any = daemon.control("flows")
        return list(found)

    def counter(self, daemon: Daemon, name: str) -> int:
        counters: dict[str, int] = daemon.status()["counters"]
        return counters.get(name, 0)

    @contextlib.contextmanager
    def counts(self, daemon: Daemon, name: str, by: int = 1) -> Iterator[None]:
        """Expects that what is done inside adds exactly so much to one of the daemon's counters."""
        before = self.counter(daemon, name)
        yield
        self.until(
            lambda: self.counter(daemon, name) - before == by,
            lambda: (
                f"{daemon.name} counts '{name}' {self.counter(daemon, name) - before} times instead of {by}: "
                f"{daemon.status()['counters']}"
            ),
        )

    def nothing_left(self) -> None:
        """Expects that no daemon holds a flow or a socket more than before, and that none has logged a traceback."""
        for daemon in (self.cpe, self.hag):
            if not daemon.process.alive:
                raise Mismatch(f"{daemon.name} has ended: {daemon.log[-2000:]}")
            self.until(
                lambda daemon=daemon: not self.flows(daemon),  # type: ignore[misc]
                lambda daemon=daemon: f"{daemon.name} still has {self.flows(daemon)}",  # type: ignore[misc]
            )
            expect("Traceback" not in daemon.log[self._logged[daemon.role] :], f"{daemon.name}: {daemon.log[-2000:]}")
            self.until(
                lambda daemon=daemon: busy(daemon, GLANCE) < 0.5,  # type: ignore[misc]
                lambda daemon=daemon: f"{daemon.name} spins, without a flow",  # type: ignore[misc]
            )
            before = self._sockets[daemon.role]
            if before.keys() == sockets(daemon).keys():  # else workers were replaced
                self.until(
                    lambda daemon=daemon, before=before: sockets(daemon) == before,  # type: ignore[misc]
                    lambda daemon=daemon, before=before: f"{daemon.name} has sockets {sockets(daemon)}, had {before}",  # type: ignore[misc]
                )

    def until(self, condition: Callable[[], T], otherwise: Callable[[], str], patience: float = PATIENCE) -> T:
        """Waits until the condition holds and gives its value; Mismatch with that text after `patience` seconds."""
        deadline = time.monotonic() + patience
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise Mismatch(otherwise())
            time.sleep(0.01)
        return value


def sockets(daemon: Daemon) -> dict[int, int]:
    """Open sockets of each worker, by process number."""
    counts = {}
    for worker in daemon.status()["workers"]:
        names = []
        for link in Path(f"/proc/{worker['pid']}/fd").iterdir():
            with contextlib.suppress(OSError):
                names.append(str(link.readlink()))
        counts[worker["pid"]] = sum(name.startswith("socket:") for name in names)
    return counts


def busy(daemon: Daemon, seconds: float) -> float:
    """The share of one processor that the daemon and its workers take while we look: 1 is all of it."""
    pids = [daemon.process.pid, *(worker["pid"] for worker in daemon.status()["workers"])]

    def taken() -> int:
        # proc(5): nanoseconds on the processor come first
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)

    before, began = taken(), time.monotonic_ns()
    time.sleep(seconds)
    return (taken() - before) / (time.monotonic_ns() - began)


def payload(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def receive_all(sock: socket.socket) -> Received:
    """Everything until the connection ends for this socket, or nothing comes for its timeout."""
    digest, size = hashlib.sha256(), 0
    ending = "FIN"
    try:
        while block := sock.recv(BLOCK):
            digest.update(block)
            size += len(block)
    except ConnectionResetError:
        ending = "RST"
    except TimeoutError as error:
        ending = "timeout" if error.errno else "open"  # ETIMEDOUT from the kernel, or our own patience
    return Received(size, digest.hexdigest(), ending)


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes. Mismatch if the connection ends before."""
    data = bytearray()
    while len(data) < size:
        block = sock.recv(size - len(data))
        expect(block, f"FIN after {len(data)} of {size} bytes")
        data += block
    return bytes(data)


def exchange(ends: Ends, size: int = 1000, seed: int = 1) -> None:
    """So many bytes each way, one after the other, which must arrive as they were sent."""
    for number, (source, sink) in enumerate(((ends.client, ends.server), (ends.server, ends.client))):
        data = payload(size, seed + number)
        source.sendall(data)
        expect(receive(sink, size) == data, "bytes arrive changed")


class Sending(threading.Thread):
    """Sends in the background; `finish` waits for the end and raises what went wrong."""

    def __init__(self, sock: socket.socket, data: bytes, then: Callable[[], object] = lambda: None) -> None:
        super().__init__(daemon=True)
        self._sock = sock
        self._data = data
        self._then = then
        self.failure: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._sock.sendall(self._data)
            self._then()
        except Exception as failure:
            self.failure = failure

    def finish(self, patience: float = 60.0) -> None:
        self.join(patience)
        expect(not self.is_alive(), f"sending is not over after {patience:g} s")
        if self.failure:
            raise self.failure
