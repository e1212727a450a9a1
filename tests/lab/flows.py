# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections through the lab with both ends in the test's hands, and daemons that are killed under them."""

import contextlib
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.daemons import Daemon
from lab.errors import LabError
from lab.topology import Lab
from tests.running import PATIENCE, until

FAMILIES = (4, 6)
PORT = 7
BLOCK = 1 << 15
STATES = ("idle", "half-closed", "clogged")


@dataclass(frozen=True, slots=True)
class Flow:
    """One TCP connection: the client's socket and the server's."""

    family: int
    client: socket.socket
    server: socket.socket

    def exchange(self, size: int = 1000) -> None:
        """`size` bytes each way, which arrive as they were sent; OSError if the connection is broken."""
        for source, sink in ((self.client, self.server), (self.server, self.client)):
            carry(source, sink, secrets.token_bytes(size))

    def clog(self) -> None:
        """The server sends until nothing more fits anywhere on the way: the client does not read."""
        self.server.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            while True:
                self.server.send(bytes(1 << 20))
        self.server.settimeout(PATIENCE)

    def end(self, first: socket.socket) -> None:
        """Closes it in order, beginning with that end."""
        for sock in (first, self.client if first is self.server else self.server):
            sock.shutdown(socket.SHUT_WR)
        assert ending(self.client) == ending(self.server) == "FIN"

    def known_to(self, daemon: Daemon) -> dict[str, Any] | None:
        """What the daemon tells of it; None if the daemon does not have it. The flow has carried data both ways."""
        # The HAG sees who the server sees, the CPE sees the client itself.
        seen = self.server.getpeername()[:2] if daemon.role == "hag" else self.client.getsockname()[:2]
        flows: Any = daemon.control("flows")
        return next((flow for flow in flows if (flow["client"], flow["client_port"]) == seen), None)

    def bonded_by(self, daemon: Daemon) -> bool:
        return bool((self.known_to(daemon) or {}).get("bonded"))


class Flows:
    """Opens flows; all are closed, with an RST, at exit."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._exit = contextlib.ExitStack()
        self._listeners = {family: self._listen(family) for family in FAMILIES}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def open(self, family: int, server: str = "") -> Flow:
        """A flow to that address of the server, which has proven that it carries data both ways."""
        with self._lab.client.entered():
            client = self._socket(family)
        client.connect((server or self._lab.server.address("core", family), PORT))
        accepted = self._keep(self._listeners[family].accept()[0])
        flow = Flow(family, client, accepted)
        flow.exchange()
        return flow

    def _socket(self, family: int) -> socket.socket:
        return self._keep(socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET))

    def _keep(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # nothing stays in TIME_WAIT
        self._exit.callback(sock.close)
        return sock

    def _listen(self, family: int) -> socket.socket:
        with self._lab.server.entered():
            listener = self._socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("", PORT))
        listener.listen()
        return listener


class Traffic:
    """Bytes both ways without a pause, compared block by block; at exit the first difference or error is raised."""

    def __init__(self, flow: Flow) -> None:
        self._ways = ((flow.client, flow.server), (flow.server, flow.client))
        self._ends = False
        self._failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._carry, args=way) for way in self._ways]
        self.blocks = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends = True
        for thread in self._threads:
            thread.join()
        if self._failures and error is None:
            raise self._failures[0]

    def moves_on(self) -> None:
        """Waits until some more has been carried. Raises what has gone wrong instead."""
        goal = self.blocks + 20
        until(lambda: self._failures or self.blocks >= goal, "more is carried")
        if self._failures:
            raise self._failures[0]

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while not self._ends:
                carry(source, sink, secrets.token_bytes(BLOCK))
                self.blocks += 1
                time.sleep(0.001)  # not for readiness: leaves some of the machine to the others
        except Exception as failure:
            self._failures.append(failure)


def carry(source: socket.socket, sink: socket.socket, data: bytes) -> None:
    source.sendall(data)
    received = bytearray()
    while len(received) < len(data):
        block = sink.recv(len(data) - len(received))
        assert block, f"ends after {len(received)} of {len(data)} bytes"
        received += block
    assert received == data


def ending(sock: socket.socket) -> str:
    """How the connection ends for this socket, once everything that has arrived is read: 'RST', 'FIN' or 'open'."""
    try:
        while sock.recv(1 << 20):
            pass
    except ConnectionResetError:
        return "RST"
    except TimeoutError:
        return "open"
    return "FIN"


def workers(daemon: Daemon) -> list[int]:
    """Process numbers of the children, the workers, that live; in the order of their birth."""
    pid = daemon.process.pid
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if _lives(child)]
    except OSError:
        return []


def owner(daemon: Daemon, flow: Flow) -> int:
    """The worker that has the flow, by the socket of its plain TCP leg."""
    end = flow.server if daemon.role == "hag" else flow.client
    local, peer = (_as_ss_writes(address[:2]) for address in (end.getpeername(), end.getsockname()))
    for line in daemon.node.run(["ss", "-Htnp"]).stdout.splitlines():
        words = line.split()
        if (words[3], words[4]) == (local, peer) and (found := re.search(r"pid=(\d+)", line)):
            return int(found[1])
    raise LabError(f"{daemon.name} has no socket between {local} and {peer}")


@contextlib.contextmanager
def opened(lab: Lab) -> Iterator[tuple[Flows, dict[str, Flow]]]:
    """Flows of both families in every state in which one can be when its end comes."""
    with Flows(lab) as flows:
        states = {f"{state} IPv{family}": flows.open(family) for family in FAMILIES for state in STATES}
        for state, flow in states.items():
            if state.startswith("half"):
                flow.client.shutdown(socket.SHUT_WR)
                assert flow.server.recv(1) == b""
            if state.startswith("clogged"):
                flow.clog()
        yield flows, states


def endings(flows: dict[str, Flow]) -> dict[str, tuple[str, str]]:
    """How they end, for client and server. A half-closed one has had the client's FIN, so only the client is asked."""
    return {
        state: (ending(flow.client), "RST" if state.startswith("half") else ending(flow.server))
        for state, flow in flows.items()
    }


def _as_ss_writes(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _lives(pid: int | str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
