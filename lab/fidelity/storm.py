# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on many short connections from one client to one server, which use the same ports again and again."""

import errno
import os
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from lab.access import Kind
from lab.bonded import Pair
from lab.daemons import Daemon
from lab.fidelity.bench import Bench, Ends, direct, equal, exchange, expect, receive_all
from lab.fidelity.matrix import row

First = Literal["client", "server"]  # who ends first, which is who keeps the connection in TIME_WAIT

WORD: Final = 8  # bytes that go each way
STALLED: Final = 0.9  # seconds: a SYN that was lost is sent again after 1
PATIENCE: Final = 20.0  # seconds without any event
AT_ONCE: Final = 16
KERNELS_CHOICE: Final = [0] * AT_ONCE  # of a port
FEW_PORTS: Final = range(20000, 20000 + AT_ONCE)
OTHER_HOST: Final = {4: "192.0.2.12/26", 6: "2001:db8:1000:1::12/64"}
MORE_PORTS: Final = range(20000, 20100)


class Client:
    """One connection: it sends its number, wants to have it back, and knows since when."""

    def __init__(self, sock: socket.socket, number: int, port: int) -> None:
        self.sock = sock
        self.port = port
        self.word = number.to_bytes(WORD, "big")
        self.received = b""
        self.began = time.monotonic()


class Storm:
    """Connections to a listener, some at a time, each from one of the `ports`, which are used again and again."""

    def __init__(self, bench: Bench, first: First, ports: Sequence[int]) -> None:
        self.answered = 0
        self.failed: Counter[str] = Counter()
        self.slowest = 0.0
        self._first = first
        self._ports = deque(ports)
        self._family = socket.AF_INET6 if bench.family == 6 else socket.AF_INET
        self._source = bench.lab.client.address("lan", bench.family)
        self._node = bench.lab.client
        self._listener = bench.listen(backlog=4096)
        self._listener.setblocking(False)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))  # what it accepts ends in order
        self._server = self._listener.getsockname()[:2]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._clients: set[Client] = set()

    def run(self, count: int) -> None:
        """Returns when all have ended, or nothing happens any more."""
        begun, progress = 0, time.monotonic()
        with self._node.entered():
            while begun < count or self._clients:
                while begun < count and len(self._clients) < AT_ONCE and self._ports and self._begin(begun):
                    begun += 1
                for key, events in self._selector.select(0.01):
                    progress = time.monotonic()
                    if isinstance(key.data, Client):
                        self._on_client(key.data, events)
                    elif key.fileobj is self._listener:
                        self._accept()
                    else:
                        assert isinstance(key.fileobj, socket.socket)
                        self._on_server(key.fileobj)
                if time.monotonic() - progress > PATIENCE:
                    break
        for client in list(self._clients):
            self._finish(client, "never ended")
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _begin(self, number: int) -> bool:
        """False if the client's own TIME_WAIT keeps the port for a while yet."""
        sock = socket.socket(self._family)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client = Client(sock, number, self._ports.popleft())
        if client.port:
            sock.bind((self._source, client.port))
        if sock.connect_ex(self._server) == errno.EADDRNOTAVAIL:
            sock.close()
            self._ports.append(client.port)
            return False
        self._clients.add(client)
        self._selector.register(sock, selectors.EVENT_WRITE, client)
        return True

    def _on_client(self, client: Client, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                client.sock.sendall(client.word)
                self._selector.modify(client.sock, selectors.EVENT_READ, client)
                return
            block = client.sock.recv(2 * WORD)
        except OSError as error:
            self._finish(client, errno.errorcode[error.errno or 0])
            return
        client.received += block
        if block and (self._first == "server" or len(client.received) < WORD):
            return
        self._finish(client, "" if client.received == client.word else "another answer")

    def _finish(self, client: Client, failure: str) -> None:
        self._clients.remove(client)
        self._ports.append(client.port)
        self._selector.unregister(client.sock)
        client.sock.close()
        self.slowest = max(self.slowest, time.monotonic() - client.began)
        if failure:
            self.failed[failure] += 1
        else:
            self.answered += 1

    def _accept(self) -> None:
        try:
            while True:
                sock = self._listener.accept()[0]
                sock.setblocking(False)
                self._selector.register(sock, selectors.EVENT_READ)
        except BlockingIOError:
            return

    def _on_server(self, sock: socket.socket) -> None:
        try:
            block = sock.recv(WORD)
            sock.sendall(block)
            if block and self._first == "client":
                return
        except OSError:
            pass  # the client will tell
        self._selector.unregister(sock)
        sock.close()


def loses_none(bench: Bench, count: int, first: First, ports: Sequence[int]) -> None:
    """All are answered, none stalls, and each is bonded or passed by a daemon that says so."""
    before = {daemon: daemon.status()["counters"] for daemon in (bench.cpe, bench.hag)}
    storm = Storm(bench, first, ports)
    storm.run(count)
    equal("what failed", dict(storm.failed), {})
    equal("connections that were answered", storm.answered, count)
    expect(storm.slowest < STALLED, f"the slowest took {storm.slowest:.3f} s")
    for daemon, counters in before.items():
        new = Counter(daemon.status()["counters"])
        new.subtract(counters)
        became = {name: number for name, number in new.items() if number}
        opened = sum(number for name, number in became.items() if name.startswith(("opened: ", "passed: ")))
        expect(opened == count and len(became) <= 2, f"{daemon.name} counts {became}")


@row("3a", "250 connections, each port used again as soon as the server has ended the last one", setup=direct)
def ports_used_again_at_once(bench: Bench) -> None:
    loses_none(bench, 250, "server", FEW_PORTS)


@row("3b", "200 connections, ports used again inside the client's TIME_WAIT", setup=direct)
def ports_used_again_in_time_wait(bench: Bench) -> None:
    own_time_wait_is_short(bench)
    loses_none(bench, 200, "client", MORE_PORTS)


@row("3c", "20 000 connections, the client ends first", setup=direct, slow=True)
def many_ended_by_the_client(bench: Bench) -> None:
    own_time_wait_is_short(bench)
    loses_none(bench, 20_000, "client", KERNELS_CHOICE)


@row("3d", "20 000 connections, the server ends first, on 16 ports", setup=direct, slow=True)
def many_ended_by_the_server(bench: Bench) -> None:
    loses_none(bench, 20_000, "server", FEW_PORTS)


def router_for_one() -> Pair:
    return Pair(Kind.DIRECT, cpe_options={"workers": 1, "max_flows": 1}, hag_options={"workers": 1})


def gateway_for_one() -> Pair:
    return Pair(Kind.DIRECT, cpe_options={"workers": 1}, hag_options={"workers": 1, "max_flows": 1})


def plain_on_the_ports_of_a_bonded_one(bench: Bench, passing: Daemon) -> None:
    """That one is in TIME_WAIT on the boxes, which must not take the plain one's packets for its own."""
    own_time_wait_is_short(bench)
    listener = bench.listen()
    for port, first in ((20200, "server"), (20201, "client")):
        ends = connect_from(bench, port, listener)
        bench.bonded(ends)
        exchange_and_end(bench, ends, first == "server")
        other = bench.connect(listener=listener)
        bench.bonded(other)
        with bench.counts(passing, "passed: table full"):
            began = time.monotonic()
            ends = connect_from(bench, port, listener)
            exchange(ends)
            took = time.monotonic() - began
        expect(took < STALLED / 2, f"it takes {took:.3f} s where the {first} has ended the one before")
        other.client.close()
        exchange_and_end(bench, ends, first == "server")
        ends = connect_from(bench, port, listener)
        bench.bonded(ends)
        exchange_and_end(bench, ends, first == "server")


def own_time_wait_is_short(bench: Bench) -> None:
    """Lets the client use its ports again at once, or after a second on kernels that do not let one choose."""
    bench.lab.client.sysctl({"ipv4/tcp_tw_reuse": 1})
    if Path("/proc/sys/net/ipv4/tcp_tw_reuse_delay").exists():
        bench.lab.client.sysctl({"ipv4/tcp_tw_reuse_delay": 1})


def exchange_and_end(bench: Bench, ends: Ends, server_first: bool, last: bool = True) -> None:
    exchange(ends)
    one, other = (ends.server, ends.client) if server_first else (ends.client, ends.server)
    one.shutdown(socket.SHUT_WR)
    equal("what one end receives", receive_all(other).ending, "FIN")
    other.shutdown(socket.SHUT_WR)
    equal("what the other end receives", receive_all(one).ending, "FIN")
    one.close()
    other.close()
    if last:
        bench.until(lambda: not bench.flows(bench.cpe) and not bench.flows(bench.hag), lambda: "a flow is left")


def connect_from(bench: Bench, port: int, listener: socket.socket, source: str = "") -> Ends:
    client = bench.tcp(bench.lab.client, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
    client.bind((source or bench.lab.client.address("lan", bench.family), port))

    def connected() -> bool:
        error = client.connect_ex(listener.getsockname()[:2])
        expect(error in (0, errno.EADDRNOTAVAIL), f"connect() fails: {os.strerror(error)}")
        return not error

    bench.until(connected, lambda: "the client's own TIME_WAIT does not end")
    server = listener.accept()[0]
    bench.undo(server.close)
    server.settimeout(PATIENCE)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
    return Ends(client, server)


@row("3e", "a connection that the router passes, on the ports of a bonded one in TIME_WAIT", setup=router_for_one)
def passed_by_the_router(bench: Bench) -> None:
    plain_on_the_ports_of_a_bonded_one(bench, bench.cpe)


@row("3f", "a connection that the gateway passes, on the ports of a bonded one in TIME_WAIT", setup=gateway_for_one)
def passed_by_the_gateway(bench: Bench) -> None:
    plain_on_the_ports_of_a_bonded_one(bench, bench.hag)


@row("3g", "two hosts use the same port at the same time", setup=direct)
def equal_ports(bench: Bench) -> None:
    address = OTHER_HOST[bench.family]
    bench.lab.client.configure([f"address replace {address} dev lan" + (" nodad" if bench.family == 6 else "")])
    listener = bench.listen()
    ends = [
        connect_from(bench, 20300, listener, source)
        for source in (bench.lab.client.address("lan", bench.family), address.partition("/")[0])
    ]
    for pair in ends:
        bench.bonded(pair)
    for seed, pair in enumerate(ends):
        exchange(pair, 100_000, seed)
    for pair in ends:
        exchange_and_end(bench, pair, server_first=True, last=pair is ends[-1])
