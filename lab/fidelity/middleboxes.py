# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on ways that know nothing of Multipath TCP, or of us: what comes of it is plain TCP that works."""

import contextlib
import errno
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import mptcp
from lab import middlebox
from lab.bonded import Pair
from lab.daemons import Daemon
from lab.fidelity.bench import (
    PATIENCE,
    Bench,
    Ends,
    Sending,
    Via,
    equal,
    exchange,
    expect,
    payload,
    receive,
    receive_all,
    sha256,
)
from lab.fidelity.matrix import Skip, row
from lab.middlebox import drop, strip
from lab.node import Node

SLACK = 0.050  # seconds that opening may take longer than without the pair
SILENT_DROP = 3.5  # seconds, at most, that the first one costs: the kernel leaves the option out after three
STALL = 3.0  # seconds, at most, for what takes one
SIZE = 150_000  # bytes each way: with that it has grown enough for LTE
LONG = 2 * SIZE  # bytes of an upload that takes half a second

REFUSED = "the other end or the path takes no Multipath TCP"
WITHOUT = "the router that asked for Multipath TCP goes on without"
FELL_BACK = "the path takes Multipath TCP's option out of later segments"
STRIPPED = "the path takes Multipath TCP's option out of data"
LATE = "the answer took so long that the kernel had given Multipath TCP up"
LOST = "SYNs with MP_CAPABLE got no answer, one without did"
DESTINATION = "SYNs with MP_CAPABLE get lost on the way to this destination"
EVERYWHERE = "SYNs with MP_CAPABLE get lost on the way to every destination"

CHANCES = 6  # connections, each of which either worker may have: its port decides

AGAIN = "tried again without Multipath TCP"  # by the daemon, where the kernel does not

FALLBACK = "mptcp/syn_retrans_before_tcp_fallback"
NEVER = 128

# The server's further addresses, and that of another host of the LAN.
PREFIX = {4: 26, 6: 64}
SERVERS = {4: [f"203.0.113.{n}" for n in range(11, 19)], 6: [f"2001:db8:3000::{n}" for n in range(11, 19)]}
OTHER_HOST = {4: "192.0.2.11", 6: "2001:db8:1000:1::11"}


class Street(Pair):
    """A pair with several servers, and two hosts in the LAN. What one of the router's workers learns, both know."""

    def __init__(self) -> None:
        super().__init__(cpe_options={"workers": 2})

    def __enter__(self) -> "Street":
        super().__enter__()
        for node, device, addresses in (
            (self.lab.server, "core", SERVERS),
            (self.lab.client, "lan", {family: [address] for family, address in OTHER_HOST.items()}),
        ):
            for family, of_family in addresses.items():
                node.configure(f"address add {it}/{PREFIX[family]} dev {device}" for it in of_family)
        return self


class Stubborn(Street):
    """The router's kernel never leaves the option out of a SYN, as those before 6.12."""

    def __enter__(self) -> "Stubborn":
        require_stubborn()
        super().__enter__()
        stubborn(self.cpe)
        return self


def require_stubborn() -> None:
    """Raises Skip if a kernel like that cannot be had here."""
    if mptcp.falls_back() and not Path("/proc/sys/net", FALLBACK).exists():
        raise Skip(f"this kernel leaves the option out after three SYNs, and has no setting net/{FALLBACK}")


def stubborn(daemon: Daemon) -> None:
    """Gives this daemon a kernel that never leaves the option out, or leaves it to it."""
    if mptcp.falls_back():
        daemon.node.sysctl({FALLBACK: NEVER})
        daemon.restart()


@contextlib.contextmanager
def nothing_learnt(bench: Bench) -> Iterator[None]:
    """What the CPE learns inside it forgets again, as the next rows must not find it."""
    try:
        yield
    finally:
        bench.close()
        bench.cpe.restart()  # killing the workers, time and again, would be taken for a crash loop


@contextlib.contextmanager
def on_the_way(node: Node, *rules: str) -> Iterator[None]:
    """While inside, a box before this node acts by these rules."""
    middlebox.put(node, *rules)
    try:
        yield
    finally:
        middlebox.remove(node)


def timed(bench: Bench, via: Via = "lan") -> tuple[Ends, float]:
    """A connection, and the seconds that opening it took."""
    listener = bench.listen()
    began = time.monotonic()
    ends = bench.connect(via, listener)
    return ends, time.monotonic() - began


def opens_as_fast(bench: Bench) -> Ends:
    """A connection by way of the pair, which takes no longer to open than one without it."""
    _, plain = timed(bench, "guest")
    ends, took = timed(bench)
    expect(took - plain <= SLACK, f"opening takes {took * 1000:.0f} ms instead of {plain * 1000:.0f}")
    return ends


def plain_and_whole(bench: Bench, why: str | None = None) -> Ends:
    """A connection that opens at once, is not bonded, for that reason on the CPE, and carries everything."""
    ends = opens_as_fast(bench)
    exchange(ends, SIZE)
    flows = bench.flows(bench.cpe)
    equal("what it is and why", [(it["bonded"], it["why"]) for it in flows], [(False, why)])
    return ends


def visit(bench: Bench, addresses: Sequence[str], source: str = "") -> list[float]:
    """Opens a connection to each of these at once, from that address of the client; gives the seconds they took."""
    listener = bench.tcp(bench.lab.server, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    listener.bind(("", 0))
    listener.listen()
    with selectors.DefaultSelector() as selector:
        began, took = time.monotonic(), dict.fromkeys(addresses, 0.0)
        clients = {}
        for address in addresses:
            client = bench.client() if not source else bench.tcp(bench.lab.client)
            if source:
                client.bind((source, 0))
            client.setblocking(False)
            equal("connect()", client.connect_ex((address, listener.getsockname()[1])), errno.EINPROGRESS)
            selector.register(client, selectors.EVENT_WRITE, address)
            clients[address] = client
        while selector.get_map():
            ready = selector.select(PATIENCE)
            expect(ready, "a connection does not come about")
            for key, _ in ready:
                took[key.data] = time.monotonic() - began
                selector.unregister(key.fileobj)
    data = payload(1000, 7)
    for client in clients.values():
        equal("the error", client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)
        client.sendall(data)
    for _ in clients:
        with listener.accept()[0] as server:
            server.settimeout(PATIENCE)
            expect(receive(server, len(data)) == data, "bytes arrive changed")
            server.sendall(data)
    for client in clients.values():
        client.settimeout(PATIENCE)
        expect(receive(client, len(data)) == data, "bytes arrive changed")
        client.close()
    return list(took.values())


def fast(bench: Bench, addresses: Sequence[str], source: str = "") -> None:
    """Connections to these take no longer than one without the pair."""
    (plain,) = visit(bench, addresses[:1], bench.lab.client.address("guest", bench.family))
    slowest = max(visit(bench, addresses, source))
    expect(slowest - plain <= SLACK, f"opening takes {slowest * 1000:.0f} ms instead of {plain * 1000:.0f}")


@row("4a", "no HAG on the path", setup=Street)
def no_gateway(bench: Bench) -> None:
    bench.hag.stop()
    try:
        with bench.counts(bench.cpe, f"plain: {REFUSED}"):
            plain_and_whole(bench, REFUSED)
            bench.close()
    finally:
        bench.hag.start()


@row("4b", "the HAG's daemon is dead", setup=Street, slow=True)
def gateway_dead(bench: Bench) -> None:
    bench.hag.kill_all()
    try:
        plain_and_whole(bench, REFUSED)
        bench.close()
    finally:
        bench.hag.start()
    ends = bench.connect()
    exchange(ends)
    bench.bonded(ends)


@row("4c", "the option is stripped from the SYN")
def syn_stripped(bench: Bench) -> None:
    with on_the_way(bench.lab.hag, strip("xdsl", middlebox.SYN)), bench.counts(bench.cpe, f"plain: {REFUSED}"):
        plain_and_whole(bench, REFUSED)
        equal("the flows of the gateway", bench.flows(bench.hag), [])


@row("4d", "the option is stripped from the SYN+ACK")
def syn_ack_stripped(bench: Bench) -> None:
    with (
        on_the_way(bench.lab.cpe, strip("xdsl", middlebox.SYN_ACK)),
        bench.counts(bench.cpe, f"plain: {REFUSED}"),
        bench.counts(bench.hag, f"plain: {WITHOUT}"),
    ):
        plain_and_whole(bench, REFUSED)


@row("4h", "SYNs with the option are dropped, to one destination", setup=Street)
def lost_to_one(bench: Bench) -> None:
    loses_one(bench)


@row(
    "4n",
    "SYNs with the option are dropped, to one destination, and the kernel never leaves it out",
    setup=Stubborn,
    slow=True,
)
def lost_to_one_stubbornly(bench: Bench) -> None:
    with bench.counts(bench.cpe, AGAIN):
        loses_one(bench)


def loses_one(bench: Bench) -> None:
    """Who goes there first waits for three seconds, nobody else does."""
    bad, *good = SERVERS[bench.family][:3]
    with on_the_way(bench.lab.hag, drop("xdsl", [bad])):
        with bench.counts(bench.cpe, f"plain: {LOST}"):
            (took,) = visit(bench, [bad])
        expect(took <= SILENT_DROP, f"the first connection takes {took:.1f} s")
        with bench.counts(bench.cpe, f"passed: {DESTINATION}", CHANCES):
            for _ in range(CHANCES):
                fast(bench, [bad])
        with bench.counts(bench.cpe, "opened: bonded", 2), bench.counts(bench.hag, "opened: bonded", 2):
            fast(bench, good)
    remembered = {it.get("destination") for it in bench.cpe.status()["avoided"]}
    expect(bad in remembered and not remembered & {*good}, f"what is remembered is {remembered}")


@row("4i", "SYNs with the option are dropped, to all destinations", setup=Street)
def lost_to_all(bench: Bench) -> None:
    loses_all(bench)


@row(
    "4o",
    "SYNs with the option are dropped, to all destinations, and the kernel never leaves it out",
    setup=Stubborn,
    slow=True,
)
def lost_to_all_stubbornly(bench: Bench) -> None:
    with bench.counts(bench.cpe, AGAIN, 3):
        loses_all(bench)


def loses_all(bench: Bench) -> None:
    """Who goes to three places waits for three seconds; then all is as fast as ever, and other hosts are bonded."""
    bad, good = SERVERS[bench.family][3:6], SERVERS[bench.family][6]
    with on_the_way(bench.lab.hag, drop("xdsl")):
        slowest = max(visit(bench, bad))
        expect(slowest <= SILENT_DROP, f"the first connections take {slowest:.1f} s")
        with bench.counts(bench.cpe, f"passed: {EVERYWHERE}", CHANCES):
            for _ in range(CHANCES):
                fast(bench, [good])
    host = bench.lab.client.address("lan", bench.family)
    expect(host in [it.get("host") for it in bench.cpe.status()["avoided"]], "that is not remembered")
    # Had the host made up the destinations: others do not notice, and what they find out helps it too.
    for source in (OTHER_HOST[bench.family], host):
        with bench.counts(bench.cpe, "opened: bonded"):
            fast(bench, [good], source)


@row("4j", "a slow server is not taken for one that does not get the option", setup=Street, slow=True)
def slow_server(bench: Bench) -> None:
    answers_after(bench, 3.5)


@row("4p", "a slow server, and the kernel never leaves the option out", setup=Stubborn, slow=True)
def slow_server_stubbornly(bench: Bench) -> None:
    """The gateway takes the second SYN for a copy of the one that it holds, so the server sees one connection."""
    with bench.counts(bench.cpe, AGAIN), bench.counts(bench.hag, f"plain: {WITHOUT}"):
        answers_after(bench, 4.5)


def answers_after(bench: Bench, seconds: float) -> None:
    slow, server = SERVERS[bench.family][7], bench.lab.server
    middlebox.put(server, f"iifname core {middlebox.SYN} drop")
    mend = threading.Timer(seconds, middlebox.remove, [server])
    mend.start()
    bench.undo(mend.join)
    with bench.counts(bench.cpe, f"plain: {LATE}"):
        visit(bench, [slow])
    with bench.counts(bench.cpe, "opened: bonded"):
        fast(bench, [slow])


@row("4q", "a server that never answers, and the kernel never leaves the option out", setup=Stubborn, slow=True)
def dead_server(bench: Bench) -> None:
    dead, before = SERVERS[bench.family][6], bench.counter(bench.cpe, AGAIN)
    with on_the_way(bench.lab.server, f"iifname core {middlebox.SYN} drop"), bench.counts(bench.cpe, AGAIN):
        client = bench.client()
        client.setblocking(False)
        equal("connect()", client.connect_ex((dead, 80)), errno.EINPROGRESS)
        bench.until(lambda: bench.counter(bench.cpe, AGAIN) > before, lambda: "nothing is tried again", SILENT_DROP)
        client.close()
        bench.nothing_left()
    expect(dead not in [it.get("destination") for it in bench.cpe.status()["avoided"]], "it is remembered")
    with bench.counts(bench.cpe, "opened: bonded"):
        fast(bench, [dead])


@row("4e", "the option is stripped from the third ACK")
def third_ack_stripped(bench: Bench) -> None:
    with (
        on_the_way(bench.lab.hag, strip("xdsl", middlebox.THIRD_ACK)),
        nothing_learnt(bench),
        bench.counts(bench.cpe, f"plain: {FELL_BACK}"),
        bench.counts(bench.hag, f"plain: {WITHOUT}"),
    ):
        plain_and_whole(bench, FELL_BACK)


@row("4f", "the option is stripped from all data: a question and an answer")
def data_stripped(bench: Bench) -> None:
    with stripped_data(bench), nothing_learnt(bench):
        with bench.counts(bench.cpe, f"plain: {FELL_BACK}"):
            exchange(opens_as_fast(bench))
        passes(bench)


@row("4g", "the option is stripped from all data: an upload")
def upload_stripped(bench: Bench) -> None:
    """What Linux does then would be wrong bytes, so the connection ends."""
    with stripped_data(bench), nothing_learnt(bench):
        ends, data = opens_as_fast(bench), payload(LONG, 3)
        late = threading.Timer(STALL, ends.server.shutdown, [socket.SHUT_RD])  # else a fault could go on for ever
        late.start()
        Sending(ends.client, data)
        got, told = receive_all(ends.server), receive_all(ends.client)
        late.cancel()
        equal("the ends that server and client see", (got.ending, told.ending), ("RST", "RST"))
        equal("the hash of what came before it", got.sha256, sha256(data[: got.size]))
        passes(bench)


@row("4k", "the option is stripped on LTE")
def lte_stripped(bench: Bench) -> None:
    with on_the_way(bench.lab.hag, strip("lte")):
        ends = bench.connect()
        without_stall(ends)
        bench.bonded(ends)
        equal("the links", [it["links"] for it in bench.flows(bench.cpe)], [["xdsl"]])


@row("4l", "the option is stripped from data on LTE", slow=True)
def lte_data_stripped(bench: Bench) -> None:
    with (
        on_the_way(bench.lab.hag, strip("lte", middlebox.DATA)),
        on_the_way(bench.lab.cpe, strip("lte", middlebox.DATA)),
    ):
        ends = bench.connect()
        without_stall(ends)
        bench.bonded(ends)


@row("4m", "the option is stripped from data after a while", slow=True)
def stripped_later(bench: Bench) -> None:
    for node in (bench.lab.hag, bench.lab.cpe):
        with on_the_way(node, strip("xdsl", middlebox.DATA, after=SIZE // 2)):
            ends = bench.connect()
            without_stall(ends)
            bench.bonded(ends)
            ends.client.close()


@contextlib.contextmanager
def stripped_data(bench: Bench) -> Iterator[None]:
    """No data on xDSL has the option, either way."""
    rule = strip("xdsl", middlebox.DATA)
    with on_the_way(bench.lab.hag, rule), on_the_way(bench.lab.cpe, rule):
        yield


def passes(bench: Bench) -> None:
    """The next connection is not bonded, and carries everything."""
    host = bench.lab.client.address("lan", bench.family)
    bench.until(
        lambda: host in [it.get("host") for it in bench.cpe.status()["avoided"]], lambda: "nothing is remembered", STALL
    )
    with bench.counts(bench.cpe, f"passed: {STRIPPED}"):
        exchange(opens_as_fast(bench), SIZE)


def without_stall(ends: Ends) -> None:
    """Everything arrives both ways, and no pause was long."""
    began = time.monotonic()
    exchange(ends, SIZE)
    took = time.monotonic() - began
    expect(took < STALL, f"{SIZE} bytes each way take {took:.1f} s")
