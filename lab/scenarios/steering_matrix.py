# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the bond is ever worse than the better of its accesses: one connection over pairs of them, good and bad.

Each pair is a network of its own. In it plain TCP comes first, without any daemon, over the one access and over the
other; then both daemons are started, which steer as they do by default, and the same client and server have one bonded
connection. Rates are those of some seconds in the steady state, as the receiver counts them, but no more than passed
the accesses in these seconds: until a lost packet has come again, or what is late over one access, all that came after
it waits, and then arrives at once. At the start of a connection that may be what an access carries in a second.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from lab.access import LTE, WAYS, XDSL, Access, Profile, Way
from lab.daemons import OVERFLOW, Daemon, cpe_daemon, hag_daemon
from lab.errors import LabError
from lab.goodput import Bulk, bulk
from lab.scenario import Bound, Figures, Progress, Scenario
from lab.topology import Lab

SETTLES: Final = 3.0  # seconds until a connection is steady: what is lost at its start has come again by then
MEASURED: Final = 4.0  # seconds after that
BEFORE: Final = 4.0  # seconds of the bonded connection before the rate drops, where it does

# Every ten seconds BBR gives way for a moment to see how long a round trip is. Where it takes long until the bonded
# connection is steady, it has done so, and will again: what it is compared with has to have done it as well.
LATE: Final = 6.0  # seconds from the beginning of such a measurement, of either, and that it takes


@dataclass(frozen=True, slots=True)
class Pair:
    """Two accesses. ``sane``: they should add up. ``drops`` is the rate (bit/s, both ways) that LTE has in the end.

    ``settles``: seconds until the bonded connection is steady. ``late`` is the access over which plain TCP is measured
    late, and the bonded connection then too.
    """

    name: str
    what: str
    xdsl: Profile
    lte: Profile
    sane: bool = False
    drops: float | None = None
    settles: float = SETTLES
    late: str | None = None


PAIRS: Final = (
    Pair("20+30", "20/5 15 ms, 30/10 30 ms", XDSL, LTE, sane=True),
    Pair("50+100", "50/10 10 ms, 100/30 40 ms", Profile(50e6, 10e6, 0.010), Profile(100e6, 30e6, 0.040), sane=True),
    Pair(
        "8+40",
        "8/1 25 ms, 40/15 60 ms with 20 ms of jitter",
        Profile(8e6, 1e6, 0.025),
        Profile(40e6, 15e6, 0.060, jitter=0.020),
        sane=True,
    ),
    Pair("100+300", "100/40 8 ms, 300/50 25 ms", Profile(100e6, 40e6, 0.008), Profile(300e6, 50e6, 0.025), sane=True),
    Pair("satellite", "20/5 15 ms, 50/5 280 ms", XDSL, Profile(50e6, 5e6, 0.280), settles=12.0, late="lte"),
    Pair("loss", "20/5 15 ms, 30/10 30 ms that loses 2 %", XDSL, replace(LTE, loss=0.02)),
    Pair("drop", "20/5 15 ms, 30/10 30 ms that drops to 1 Mbit/s", XDSL, LTE, drops=1e6, settles=14.0, late="xdsl"),
    Pair("bloat", "20/5 15 ms, 30/10 30 ms with 1 s of queue", XDSL, replace(LTE, queue=1.0)),
)

Cell = tuple[Pair, Way]

CELLS: Final = tuple((pair, way) for pair in PAIRS for way in WAYS)


def run(family: int, progress: Progress, cells: Sequence[Cell] = CELLS) -> Figures:
    rows: list[Figures] = []
    for pair in dict.fromkeys(pair for pair, _ in cells):
        rows += measure(pair, [way for of, way in cells if of is pair], family, progress)
    sane = [row["vs_sum"] for row in rows if row["pair"] in {pair.name for pair in PAIRS if pair.sane}]
    pictures = [row.pop("rates") for row in rows if "rates" in row]
    return {
        "rates": next(iter(pictures), None),
        "rows": rows,
        "worst_vs_best": min(row["vs_best"] for row in rows),
        "worst_vs_sum": min(sane, default=1.0),
    }


def measure(pair: Pair, ways: Sequence[Way], family: int, progress: Progress) -> list[Figures]:
    """One row for each direction."""

    def tell(way: Way, words: str) -> None:
        progress(f"{pair.what}, {way}, IPv{family}: {words}")

    rows: list[Figures] = []
    with Lab(xdsl=pair.xdsl, lte=pair.lte) as lab:
        plain: dict[Way, dict[str, float]] = {way: {} for way in ways}
        for way in ways:
            for access in lab.accesses:
                tell(way, f"plain TCP over {access.name}")
                plain[way][access.name] = alone(lab, pair, access, family, way)
        lab.route_subscribers(lab.xdsl)
        cpe, hag = cpe_daemon(lab, OVERFLOW), hag_daemon(lab)
        hag.start()
        cpe.start()
        for way in ways:
            tell(way, "bonded")
            bonded, rates = together(lab, cpe, pair, family, way)
            rows.append(as_row(pair, way, family, bonded, plain[way]))
            if pair.drops:
                rows[-1]["rates"] = rates
            counters = cpe.status()["counters"]
            if counters.get("opened: bonded", 0) != len(rows):
                raise LabError(f"the connection was not bonded: {counters}")
            tell(way, f"{rows[-1]['goodput_mbps']} Mbit/s, {rows[-1]['vs_best']} of the better access")
    return rows


def as_row(pair: Pair, way: Way, family: int, bonded: float, plain: dict[str, float]) -> Figures:
    best, both = max(plain.values()), sum(plain.values())
    return {
        "pair": pair.name,
        "direction": way,
        "family": family,
        "goodput_mbps": megabits(bonded),
        **{f"{name}_mbps": megabits(rate) for name, rate in plain.items()},
        "best_single_mbps": megabits(best),
        "sum_mbps": megabits(both),
        "vs_best": round(bonded / best, 3),
        "vs_sum": round(bonded / both, 3),
    }


def alone(lab: Lab, pair: Pair, access: Access, family: int, way: Way) -> float:
    """bit/s of plain TCP over this access. One that drops has its last rate from the beginning: it is to be beaten."""
    lab.route_subscribers(access)
    if pair.drops:
        lab.lte.set(rate=pair.drops)
    with bulk(lab, family, way) as flow:
        late = access.name == pair.late
        return steady(lab, flow, family, way, LATE if late else SETTLES, LATE if late else MEASURED)


def together(lab: Lab, cpe: Daemon, pair: Pair, family: int, way: Way) -> tuple[float, Figures]:
    """bit/s of a bonded connection, and what `Lab.rates` has of it."""
    marks = []
    if pair.drops:
        lab.lte.set("down", rate=pair.lte.rate_down)
        lab.lte.set("up", rate=pair.lte.rate_up)
    with bulk(lab, family, way) as flow:
        began = time.monotonic()
        if pair.drops:
            time.sleep(BEFORE)
            lab.lte.set(rate=pair.drops)
            marks.append((time.monotonic(), f"lte drops to {pair.drops / 1e6:g} Mbit/s"))
        rate = steady(lab, flow, family, way, pair.settles, LATE if pair.late else MEASURED)
        return rate, lab.rates(way, began, [*marks, *cpe.uses()])


def steady(lab: Lab, flow: Bulk, family: int, way: Way, settles: float, seconds: float) -> float:
    """Waits until it has settled, and gives the bit/s of the seconds after that."""
    time.sleep(settles)
    start, before = time.monotonic(), passed(lab, family, way)
    time.sleep(seconds)
    end = time.monotonic()
    return min(flow.rate(start, end), 8 * (passed(lab, family, way) - before) / (end - start))


def passed(lab: Lab, family: int, way: Way) -> float:
    """Bytes that the accesses have delivered so far, less what are headers of packets as long as can be."""
    payload = lab.xdsl.capacity("down", family) / lab.xdsl.profile.rate_down
    return payload * sum(int(access.stats()[way]["bytes"]) for access in lab.accesses)


def megabits(rate: float) -> float:
    return round(rate / 1e6, 2)


def only(names: Sequence[str]) -> Scenario:
    """The scenario with some of its rows: 20+30 is a pair both ways, 20+30-up one of them. LabError for others."""
    known = {pair.name: [(pair, way) for way in WAYS] for pair in PAIRS}
    known |= {f"{pair.name}-{way}": [(pair, way)] for pair, way in CELLS}
    if unknown := [name for name in names if name not in known]:
        pairs = " ".join(pair.name for pair in PAIRS)
        raise LabError(f"there is no row {' nor '.join(unknown)}; there are {pairs}, each also with -down and -up")
    wanted = [cell for name in names for cell in known[name]]
    return replace(SCENARIO, run=partial(run, cells=[cell for cell in CELLS if cell in wanted]))


SCENARIO = Scenario(
    name="steering-matrix",
    summary="one bonded connection over eight pairs of accesses, against plain TCP over each of them",
    run=run,
    bounds=(Bound("worst_vs_best", at_least=0.98), Bound("worst_vs_sum", at_least=0.93)),
    only=only,
)
