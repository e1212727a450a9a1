# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on SYNs that come again: because nobody has answered yet, or because the network has doubled or delayed them."""

import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

from lab.fidelity.bench import PATIENCE, Bench, Ends, Via, equal, exchange, expect, punctual
from lab.fidelity.matrix import row
from lab.rewriter import Rewriter

LOST = 0.5  # seconds in which the server loses every SYN: the first one, whose copy comes after a second (RFC 6298)
SLACK = 0.050  # seconds that connecting may take longer than without the pair

AT_ONCE = 0.5  # seconds: well before TCP's next copy, of the SYN or of the SYN+ACK, comes by itself
WATCHED = 0.1  # seconds in which what a copy brings about has come about
SIZE = 100_000  # bytes each way around copies

DEAF = """\
table inet deaf {
	chain input {
		type filter hook prerouting priority raw; policy accept;
		tcp flags & (syn | ack) == (syn | ack) drop
	}
}
"""

SERVER = """\
table inet copies {{
	chain input {{
		type filter hook prerouting priority raw; policy accept;
		tcp dport {port} tcp flags & (syn | ack) == syn counter
	}}
	chain lost {{
		type filter hook prerouting priority raw + 1; policy accept;
	}}
}}
"""


LOSE = "tcp dport {port} tcp flags & (syn | ack) == syn drop"


@row("3x", "a SYN gets lost: the server sees one copy of it, as without the pair")
def one_copy(bench: Bench) -> None:
    def attempt() -> float:
        """Seconds that it takes longer than without the pair."""
        plain, plain_time = copies(bench, "guest")
        bonded, bonded_time = copies(bench, "lan")
        equal("SYNs that reach the server without the pair", plain, 2)
        equal("SYNs that reach the server", bonded, plain)
        return bonded_time - plain_time

    punctual(attempt, SLACK)


def copies(bench: Bench, via: Via) -> tuple[int, float]:
    """SYNs that reached the server for one connection, and the seconds until it was there."""
    listener = bench.listen()
    with counted(bench, listener) as syns:
        server = bench.lab.server
        mending = threading.Timer(LOST, lambda: server.run(["nft", "flush", "chain", "inet", "copies", "lost"]))
        server.run(
            ["nft", "add", "rule", "inet", "copies", "lost", *LOSE.format(port=listener.getsockname()[1]).split()]
        )
        mending.start()
        try:
            client = bench.client(via)
            began = time.monotonic()
            client.connect(listener.getsockname()[:2])
            took = time.monotonic() - began
            mending.join()
            ends = Ends(client, listener.accept()[0])
            bench.undo(ends.server.close)
            exchange(ends)
            if via == "lan":
                bench.bonded(ends)
            return syns(), took
        finally:
            mending.cancel()
            mending.join()


@contextlib.contextmanager
def counted(bench: Bench, listener: socket.socket) -> Iterator[Callable[[], int]]:
    """While inside: how many SYNs have come to the server's network for that listener."""
    server = bench.lab.server
    server.run(["nft", "-f", "-"], text=SERVER.format(port=listener.getsockname()[1]))

    def syns() -> int:
        rules = json.loads(server.run(["nft", "--json", "list", "chain", "inet", "copies", "input"]).stdout)["nftables"]
        (count,) = [
            part["counter"]["packets"]
            for it in rules
            for part in it.get("rule", {}).get("expr", [])
            if "counter" in part
        ]
        return int(count)

    try:
        yield syns
    finally:
        server.run(["nft", "delete", "table", "inet", "copies"])


# Copies that the network makes: the same bytes once more, at the wrong time.


class Raw:
    """What the client has sent by itself, sent once more as it was; from one of its addresses."""

    def __init__(self, bench: Bench, via: Via) -> None:
        self._bench = bench
        family = socket.AF_INET if bench.family == 4 else socket.AF_INET6
        with bench.lab.client.entered():
            self._socket = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        bench.undo(self._socket.close)
        self._socket.bind((bench.lab.client.address(via, bench.family), 0))  # which decides on the route

    def send(self, syn: bytes, times: int = 1) -> None:
        for _ in range(times):
            self._socket.sendto(syn, (self._bench.server_address, 0))


def reconnect(bench: Bench, via: Via, listener: socket.socket, port: int = 0) -> tuple[Ends, bytes]:
    """A connection from that port of the client (0: any), and the SYN that began it."""
    client = bench.tcp(bench.lab.client, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    client.bind((bench.lab.client.address(via, bench.family), port))
    with Rewriter(bench.lab.client, lambda syn: syn) as original:
        client.connect(listener.getsockname()[:2])
    server = listener.accept()[0]
    bench.undo(server.close)
    server.settimeout(PATIENCE)
    return Ends(client, server), original.sent[0]


def end(ends: Ends) -> None:
    """In order; the client is the first to say so, and in TIME_WAIT then."""
    for source, sink in ((ends.client, ends.server), (ends.server, ends.client)):
        source.shutdown(socket.SHUT_WR)
        equal("what is read after FIN", sink.recv(1), b"")
    ends.client.close()
    ends.server.close()


def accepted(listener: socket.socket) -> list[str]:
    """What the server reads of each connection that waits for it, without waiting for any."""
    read = []
    listener.settimeout(0.0)
    with contextlib.suppress(BlockingIOError):
        while True:
            with listener.accept()[0] as server:
                server.settimeout(WATCHED)
                try:
                    read.append(repr(server.recv(1)))
                except OSError as error:
                    read.append(errno.errorcode.get(error.errno or 0, str(error)))
    listener.settimeout(PATIENCE)
    return read


def states(bench: Bench) -> list[str]:
    return [flow["state"] for flow in bench.flows(bench.cpe)]


@contextlib.contextmanager
def deaf(bench: Bench) -> Iterator[None]:
    """While inside, the client hears no SYN+ACK."""
    bench.lab.client.run(["nft", "-f", "-"], text=DEAF)
    try:
        yield
    finally:
        bench.lab.client.run(["nft", "delete", "table", "inet", "deaf"])


@row("3h", "a copy of the SYN comes before the client has heard the answer: it gets that at once")
def copy_of_released(bench: Bench) -> None:
    listener, client = bench.listen(), bench.client()
    client.setblocking(False)
    with deaf(bench), Rewriter(bench.lab.client, lambda syn: syn) as original:
        client.connect_ex(listener.getsockname()[:2])
        bench.until(lambda: states(bench) == ["released"], lambda: f"its flows are {states(bench)}")
    raw = Raw(bench, "lan")
    began = time.monotonic()
    raw.send(original.sent[0], 3)
    client.settimeout(PATIENCE)
    client.send(b"x")
    server = listener.accept()[0]
    bench.undo(server.close)
    server.settimeout(PATIENCE)
    equal("what arrives first", server.recv(1), b"x")
    took = time.monotonic() - began
    expect(took < AT_ONCE, f"after its copy the client waits {took:.2f} s")
    ends = Ends(client, server)
    exchange(ends, SIZE)
    bench.bonded(ends)
    equal("flows", states(bench), ["open"])
    equal("further connections", accepted(listener), [])


@row("3i", "copies of the SYN come while the connection is open: it goes on, and they go no further")
def copies_of_open(bench: Bench) -> None:
    vias: tuple[Via, ...] = ("guest", "lan")
    for via in vias:
        listener = bench.listen()
        ends, syn = reconnect(bench, via, listener)
        raw = Raw(bench, via)
        with counted(bench, listener) as syns, bench.counts(bench.cpe, "opened: bonded", 0):
            raw.send(syn)
            exchange(ends, SIZE, 3)
            raw.send(syn, 5)
            exchange(ends, SIZE, 5)
            time.sleep(WATCHED)
            equal(f"SYNs that reach the server by way of {via}", syns(), 6 if via == "guest" else 0)
        equal("further connections", accepted(listener), [])
        if via == "lan":
            bench.bonded(ends)
            equal("flows", states(bench), ["open"])
        end(ends)


@row("3j", "late copies of an ended connection's SYN: the client refuses the answer, and its next connection goes on")
def copies_of_ended(bench: Bench) -> None:
    listener = bench.listen()
    ends, old = reconnect(bench, "lan", listener)
    port = ends.client.getsockname()[1]
    exchange(ends)
    end(ends)
    bench.until(lambda: not bench.flows(bench.cpe) and not bench.flows(bench.hag), lambda: "a flow is left")
    raw = Raw(bench, "lan")
    with (
        counted(bench, listener) as syns,
        bench.counts(bench.cpe, "opened: bonded", 0),
        bench.counts(bench.cpe, "given up: RST of the client"),
    ):
        raw.send(old)
        bench.until(lambda: bench.flows(bench.cpe), lambda: "the router does not see it")
        # To the first SYN+ACK a host in TIME_WAIT says ACK. Our TCP's RST to that ends TIME_WAIT (RFC 1337), and to the
        # next SYN+ACK, after a second, the host says RST.
        bench.until(
            lambda: not bench.flows(bench.cpe) and not bench.flows(bench.hag), lambda: "a flow is left", patience=1.5
        )
        equal("SYNs that reach the server", syns(), 1)
    # Without the pair it would not hear of it: there, nobody accepts what the client has not confirmed.
    equal("what the server reads", accepted(listener), ["ECONNRESET"])
    ends, new = reconnect(bench, "lan", listener, port)
    expect(new != old, "the new connection has the SYN of the old one")
    with counted(bench, listener) as syns, bench.counts(bench.cpe, "opened: bonded", 0):
        raw.send(old)
        exchange(ends, SIZE, 3)
        for syn in (new, old, old, new):
            raw.send(syn)
        exchange(ends, SIZE, 5)
        time.sleep(WATCHED)
        equal("SYNs that reach the server", syns(), 0)
    equal("further connections", accepted(listener), [])
    bench.bonded(ends)
    equal("flows", states(bench), ["open"])
    end(ends)
