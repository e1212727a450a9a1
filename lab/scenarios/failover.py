# SPDX-License-Identifier: GPL-2.0-or-later
"""An access is lost in mid-transfer, visibly or in silence: how long nothing arrives, and how new connections fare.

A visible loss is what PPP or a modem shows (the device goes down), a silent one shows nowhere but in packets that do
not arrive. The longest gap in what the receiver gets counts, from the moment of the fault on.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from lab.access import WAYS, Access, Way
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.errors import LabError
from lab.scenario import Bound, Figures, Progress, Scenario
from lab.servers import TcpServer
from lab.stream import flowing
from lab.topology import Mark

TRIES = 20
WATCHED = 1.5  # seconds from the fault on
SETTLED = 1.0  # seconds of both accesses in use before a fault
RETURN = 10.0  # seconds that a subflow may take to come back, at most
FOUND = 1.2  # seconds after which the fault of an access is known, however it is found
HOLD = 1  # seconds that a router waits until it trusts a primary link again: those that one has by default take long

# So that what is not bonded has a way back over IPv6 (docs/configuration.md, Links that come and go).
TRANSLATION = """\
table ip6 lab_nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    oifname "lte" masquerade comment "lab: the router translates prefixes"
  }
}
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """``begin`` and ``end`` are told the access."""

    name: str
    begin: Callable[[Access], object]
    end: Callable[[Access], object]


CUT = Fault("cut", lambda access: access.cut(), lambda access: access.restore())
BLACKHOLE = Fault("blackhole", lambda access: access.blackhole(True), lambda access: access.blackhole(False))


PICTURED = (BLACKHOLE, "xdsl", "down")


@dataclass(frozen=True, slots=True)
class Gaps:
    """Of several tries: milliseconds without a byte, and until the subflow was back; bytes lost in all."""

    silent: list[float]
    back: list[float]
    lost: int
    rates: Figures  # during the first ones


def run(family: int, progress: Progress) -> Figures:
    rows: list[Figures] = []
    connects: list[Figures] = []
    figures: Figures = {}
    for fault in (CUT, BLACKHOLE):
        for name in ("xdsl", "lte"):
            for way in WAYS:
                progress(f"{fault.name} of {name} during a transfer {way}, {TRIES} times, IPv{family}")
                gaps = transfer(family, fault, name, way, TRIES)
                rows.append(as_row(fault, name, way, gaps))
                if (fault, name, way) == PICTURED:
                    figures["rates"] = gaps.rates
        progress(f"new connections after a {fault.name} of xdsl, IPv{family}")
        times = new_connections(family, fault, TRIES)
        connects.append(
            {
                "fault": f"{fault.name}-xdsl",
                "connect_ms_p50": percentile(times, 50),
                "connect_ms_p95": percentile(times, 95),
                "tries": len(times),
            }
        )
    cuts = [row for row in rows if row["fault"].startswith(CUT.name)]
    return {
        "faults": rows,
        "new-connection": connects,
        **figures,
        "cut_gap_ms_p95": max(row["gap_ms_p95"] for row in cuts),
        "blackhole_gap_ms_p95": max(row["gap_ms_p95"] for row in rows if row not in cuts),
        "back_ms_p95": max(row["back_ms_p95"] for row in rows),
        "lost_bytes": sum(row["lost_bytes"] for row in rows),
        "connect_ms_p95": max(row["connect_ms_p95"] for row in connects),
    }


def as_row(fault: Fault, access: str, way: Way, gaps: Gaps) -> Figures:
    return {
        "fault": f"{fault.name}-{access}",
        "direction": way,
        "gap_ms_p50": percentile(gaps.silent, 50),
        "gap_ms_p95": percentile(gaps.silent, 95),
        "back_ms_p95": percentile(gaps.back, 95),
        "tries": len(gaps.silent),
        "lost_bytes": gaps.lost,
    }


def transfer(family: int, fault: Fault, name: str, way: Way, tries: int) -> Gaps:
    """The fault strikes one access again and again during one transfer over both."""
    silent, back = [], []
    with Pair() as pair, flowing(pair.lab, family, way) as stream:
        access = next(access for access in pair.lab.accesses if access.name == name)
        wait(lambda: is_watched(pair), "the gateway does not answer over both accesses")
        until_both(pair)
        began, rates = time.monotonic(), {}
        marks: list[Mark] = []
        for number in range(tries):
            until_both(pair)
            time.sleep(SETTLED)
            with struck(access, fault) as start:
                time.sleep(WATCHED)
                silent.append(1000 * stream.longest_gap(start, start + WATCHED))
            mended = time.monotonic()
            marks += [(start, f"{fault.name} of {name}"), (mended, "it is mended")]
            if number == 1:
                rates = pair.lab.rates(way, began, [*marks, *pair.cpe.uses()])
            until_both(pair)
            back.append(1000 * (time.monotonic() - mended))
        return Gaps(silent, back, stream.end(), rates)


def new_connections(family: int, fault: Fault, tries: int) -> list[float]:
    """Milliseconds until one is open that begins at some time after the primary access is lost."""
    times = []
    with Pair(cpe_options={"hold": HOLD}) as pair:
        pair.lab.cpe.run(["nft", "-f", "-"], text=TRANSLATION)
        server = TcpServer(pair.lab.server)
        for number in range(tries):
            wait(lambda: is_in_use(pair, family, server.port), "the primary access is not used")
            time.sleep(SETTLED)  # an idle line, where the loss takes longest to be found
            with struck(pair.lab.xdsl, fault):
                time.sleep(FOUND * number / tries)
                times.append(opened(pair, family, server.port))
    return times


def is_in_use(pair: Pair, family: int, port: int) -> bool:
    """Whether new connections begin over the primary access, and the gateway is known to answer over both."""
    before = pair.bonded()
    with suppress(ConnectionError):  # of one that began over LTE, translated, when the primary link came back
        return opened(pair, family, port) < 1000 and pair.bonded() > before and is_watched(pair)
    return False


def is_watched(pair: Pair) -> bool:
    """Whether the gateway is known to answer over both accesses."""
    links: Any = pair.cpe.control("links")
    return all(link["answers"] for link in links)


def opened(pair: Pair, family: int, port: int) -> float:
    """How long it took; as long as was waited if it was in vain."""
    start = time.monotonic()
    try:
        connection, milliseconds = connect(pair.lab, family, port)
    except LabError:
        return 1000 * (time.monotonic() - start)
    with connection:
        answers(connection)
    return milliseconds


@contextmanager
def struck(access: Access, fault: Fault) -> Iterator[float]:
    """Inside, the access has the fault, since the time that it gives."""
    start = time.monotonic()
    fault.begin(access)
    try:
        yield start
    finally:
        fault.end(access)


def until_both(pair: Pair) -> None:
    def both() -> bool:
        flows: Any = pair.cpe.control("flows")
        return [sorted(flow["links"]) for flow in flows] == [["lte", "xdsl"]]

    wait(both, "the connection does not use both accesses")


def wait(done: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + RETURN
    while not done():
        if time.monotonic() > deadline:
            raise LabError(f"{why}, after {RETURN:g} s")
        time.sleep(0.02)


def percentile(values: Sequence[float], rank: int) -> float:
    """Of few values: the smallest one that so many percent do not exceed."""
    if rank == 50:
        return round(statistics.median(values), 1)
    ordered = sorted(values)
    return round(ordered[-(-len(ordered) * rank // 100) - 1], 1)


SCENARIO = Scenario(
    name="failover",
    summary="an access is lost in mid-transfer, for all to see and in silence; new connections meanwhile",
    run=run,
    bounds=(
        Bound("cut_gap_ms_p95", at_most=300),
        Bound("blackhole_gap_ms_p95", at_most=500),
        Bound("back_ms_p95", at_most=2000),
        Bound("connect_ms_p95", at_most=1000),
        Bound("lost_bytes", at_most=0),
    ),
)
