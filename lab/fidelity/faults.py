# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on an access that fails while bytes are on their way: the connection lives on the other one, and none is lost.

How soon it goes on is not the question here. Each fault begins once the connection uses both accesses: before, there is
nothing to go on over when the primary one fails, with or without the pair.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from lab.access import LTE, WAYS, XDSL, Access, Cut, Way
from lab.bonded import Pair
from lab.fidelity.bench import BLOCK, Bench, Ends, equal, exchange, expect
from lab.fidelity.matrix import row
from lab.topology import subscriber_route

PATIENCE = 60.0  # seconds that a connection may stand still or a transfer take
LIVES = {"up": 150_000, "down": 450_000}  # bytes from a fault's beginning on that show that it does
WHOLE = {"up": 1_000_000, "down": 3_000_000}  # bytes of a transfer: about a second over both accesses
AHEAD = 1 << 19  # bytes that are sent and have not arrived, at most: what a fault meets on its way is enough
SLOWER = 0.05
QUEUE = 0.03  # seconds
LOST = 2  # packets, at least
COPY = 2.5  # seconds, at most, until the next SYN of a client, which comes after one


def failing() -> Pair:
    """With short queues: what waits in one when its access is slowed needs 20 times as long.

    And a primary link that has just come back is used again at once.
    """
    return Pair(xdsl=replace(XDSL, queue=QUEUE), lte=replace(LTE, queue=QUEUE), cpe_options={"hold": 0})


Sign = Callable[[Bench, Access], int]  # which grows once the fault is there


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    begin: Callable[[Access], object]
    sign: Sign | None = None
    by: int = 1


def lost(_bench: Bench, access: Access) -> int:
    """Packets that the access has lost so far."""
    stats = access.stats()
    return sum(int(stats[way]["lost"]) + int(stats[way]["swallowed"]) for way in WAYS)


def carrier_lost(bench: Bench, access: Access) -> int:
    """1 if the router sees that its device has no carrier, as the kernel may do a second late."""
    (shown,) = json.loads(bench.lab.cpe.run(["ip", "-json", "link", "show", access.name]).stdout)
    return int("LOWER_UP" not in shown["flags"])


def slow(access: Access) -> None:
    access.set("down", rate=access.profile.rate_down * SLOWER)
    access.set("up", rate=access.profile.rate_up * SLOWER)


def reordered(access: Access) -> None:
    access.set(jitter=access.profile.delay / 2, reorder=True)


WEAK: Final = (
    Fault("1 % lossy", lambda access: access.set(loss=0.01), lost, LOST),
    Fault("5 % lossy", lambda access: access.set(loss=0.05), lost, LOST),
    Fault("reordered", reordered),
    Fault("slowed to 5 %", slow),
)
BLACKHOLED: Final = Fault("blackholed", lambda access: access.blackhole(True), lost, LOST)
DOWN: Final = Fault("down", lambda access: access.cut(Cut.DOWN), carrier_lost)
GONE: Final = (
    BLACKHOLED,
    Fault("without carrier", lambda access: access.cut(Cut.CARRIER), carrier_lost),
    DOWN,
)


@row("11a", "the primary access lossy, then reordered; the other one slowed", setup=failing)
def access_weakens(bench: Bench) -> None:
    access = access_of(bench)
    with two_way(bench) as streams:
        for fault in WEAK[:-1] if bench.family == 4 else WEAK[-1:]:
            with struck(bench, access, fault):
                for way, stream in streams.items():
                    stream.until_moved(LIVES[way])
        for stream in streams.values():
            stream.end()


@row("11b", "an access gone: the primary one in silence, the other one for all to see", setup=failing)
def access_vanishes(bench: Bench) -> None:
    with two_way(bench) as streams, struck(bench, access_of(bench), BLACKHOLED if bench.family == 4 else DOWN):
        for way, stream in streams.items():
            stream.until_moved(LIVES[way])
        for stream in streams.values():
            stream.end()


@row("11j", "the primary access gone for all to see while a SYN waits for an answer", setup=failing, slow=True)
def access_vanishes_under_a_syn(bench: Bench) -> None:
    """It goes by the other access, where nobody asks for Multipath TCP: at once, or as the client's next copy."""
    xdsl, listener, client = bench.lab.xdsl, bench.listen(), bench.client()
    client.setblocking(False)
    xdsl.blackhole(True)  # or the answer would be there before
    bench.undo(lambda: mend(bench, xdsl))
    client.connect_ex(listener.getsockname()[:2])
    bench.until(
        lambda: [flow["state"] for flow in bench.flows(bench.cpe)] == ["held"], lambda: "the router does not hold it"
    )
    reroute(bench)
    with struck(bench, xdsl, DOWN), bench.counts(bench.cpe, "passed: primary link is down"):
        listener.settimeout(COPY)
        server = listener.accept()[0]
        bench.undo(server.close)
        server.settimeout(PATIENCE)
        client.settimeout(PATIENCE)
        exchange(Ends(client, server))
        equal("flows on the router", bench.flows(bench.cpe), [])


@row("11k", "new connections once the primary access is gone in silence", setup=failing, slow=True)
def access_vanishes_before_a_syn(bench: Bench) -> None:
    """They go by the other access as soon as the router has found out that nothing is answered over this one."""
    exchange(bench.connect(), 100_000)  # from which it knows whom to ask
    bench.until(lambda: all(link["answers"] for link in links(bench)), lambda: f"no answers over both: {links(bench)}")
    bench.lab.xdsl.blackhole(True)
    bench.undo(lambda: mend(bench, bench.lab.xdsl))
    reroute(bench)
    began = time.monotonic()
    ends = bench.connect()
    expect(time.monotonic() - began < COPY, f"it takes {time.monotonic() - began:.1f} s")
    exchange(ends)


def links(bench: Bench) -> list[dict[str, Any]]:
    found: Any = bench.cpe.control("links")
    return list(found)


def reroute(bench: Bench) -> None:
    """What the operator's routing does when the primary access is gone."""
    bench.lab.hag.configure([subscriber_route(bench.lab.cpe, "lte")])
    bench.undo(lambda: bench.lab.hag.configure([subscriber_route(bench.lab.cpe, "xdsl")]))


def access_of(bench: Bench) -> Access:
    """The one to fail: a run of both families has seen both."""
    return bench.lab.xdsl if bench.family == 4 else bench.lab.lte


def at_each_place(fault: Fault, bench: Bench) -> None:
    """Each access has the fault from near the beginning of a transfer to its end, each way."""
    for access, way in itertools.product(bench.lab.accesses, WAYS):
        with two_way(bench, [way]) as streams:
            streams[way].until_moved(LIVES[way])
            with struck(bench, access, fault):
                streams[way].until_moved(WHOLE[way])
                for stream in streams.values():
                    stream.end()


for _letter, _fault in zip("cdefghi", (*WEAK, *GONE), strict=True):
    row(f"11{_letter}", f"each access {_fault.name} to the end of a transfer, each way", setup=failing, slow=True)(
        functools.partial(at_each_place, _fault)
    )


class Stream:
    """Random bytes from one end of a connection to the other, until `end`."""

    def __init__(
        self, bench: Bench, name: Way, source: socket.socket, sink: socket.socket, *, idle: bool = False
    ) -> None:
        """With `idle` there is nothing but the end to send."""
        self._bench = bench
        self._name = name
        self._source = source
        self._sink = sink
        self._idle = idle
        self._stopping = False
        self._digests = {end: hashlib.sha256() for end in ("sent", "received")}
        self._sizes = {"sent": 0, "received": 0}
        self._ending = "none"
        self._failure: OSError | None = None
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def until_moved(self, size: int) -> None:
        """Waits until so many bytes more have arrived."""
        wanted = self._sizes["received"] + size
        self._bench.until(lambda: self._sizes["received"] >= wanted or self._ending != "none", self._state, PATIENCE)
        equal(f"the end of {self._name} so far", self._ending, "none")

    def end(self) -> None:
        """With FIN, and all must have arrived as it was sent."""
        self._stopping = True
        for thread in self._threads:
            thread.join(PATIENCE)
        equal(f"the end of {self._name}", self._ending, "FIN")
        expect(self._failure is None, f"{self._name}: {self._failure}")
        equal(f"bytes received {self._name}", self._sizes["received"], self._sizes["sent"])
        equal("their hash", self._digests["received"].hexdigest(), self._digests["sent"].hexdigest())

    def _send(self) -> None:
        numbers = random.Random(self._name)
        try:
            while not self._stopping:
                if self._idle or self._sizes["sent"] - self._sizes["received"] > AHEAD - BLOCK:
                    time.sleep(0.001)
                    continue
                block = numbers.randbytes(BLOCK)
                self._source.sendall(block)
                self._count("sent", block)
            self._source.shutdown(socket.SHUT_WR)
        except OSError as failure:
            self._failure = failure

    def _receive(self) -> None:
        try:
            while block := self._sink.recv(BLOCK):
                self._count("received", block)
            self._ending = "FIN"
        except OSError as failure:
            self._ending = str(failure)

    def _count(self, end: str, block: bytes) -> None:
        self._digests[end].update(block)
        self._sizes[end] += len(block)

    def _state(self) -> str:
        return f"{self._name}: {self._sizes}, and then nothing; flows {self._bench.flows(self._bench.cpe)}"


@contextlib.contextmanager
def two_way(bench: Bench, ways: Sequence[Way] = WAYS) -> Iterator[dict[Way, Stream]]:
    """A connection over both accesses with bytes going both ways, or one."""
    ends = bench.connect()
    for sock in (ends.client, ends.server):
        sock.settimeout(PATIENCE)
    directions = {"up": (ends.client, ends.server), "down": (ends.server, ends.client)}
    streams = {way: Stream(bench, way, *directions[way], idle=way not in ways) for way in WAYS}
    links = [access.name for access in bench.lab.accesses]
    bench.until(
        lambda: [flow["links"] for flow in bench.flows(bench.cpe)] == [links],
        lambda: f"it does not use both accesses: {bench.flows(bench.cpe)}",
    )
    yield streams


@contextlib.contextmanager
def struck(bench: Bench, access: Access, fault: Fault) -> Iterator[None]:
    """Inside, the access has the fault."""
    before = fault.sign(bench, access) if fault.sign else 0
    try:
        fault.begin(access)
        if sign := fault.sign:
            bench.until(lambda: sign(bench, access) - before >= fault.by, lambda: f"{access.name} is not {fault.name}")
        yield
    finally:
        mend(bench, access)


def mend(bench: Bench, access: Access) -> None:
    profile = access.profile
    access.set(loss=profile.loss, jitter=profile.jitter, reorder=False, blackhole=False)
    access.set("down", rate=profile.rate_down)
    access.set("up", rate=profile.rate_up)
    access.restore()
    bench.until(
        lambda: all(link["up"] for link in bench.cpe.status()["links"]),
        lambda: f"the router does not see that {access.name} is back: {bench.cpe.status()['links']}",
    )
