# SPDX-License-Identifier: GPL-2.0-or-later
"""What LTE carries while the line is hardly, half and fully loaded by one connection, and how soon that changes.

It is steering's default mode. Shares are of the bytes of both accesses, handshakes and probes included.
"""

import time
from collections.abc import Iterable

from lab.access import WAYS, Access, Way
from lab.bonded import Pair
from lab.daemons import OVERFLOW
from lab.scenario import Bound, Figures, Progress, Scenario
from lab.stream import Stream, flowing
from lab.topology import Mark

IDLE, HALF = 0.05, 0.5  # of xDSL's rate
SETTLES = 2.0  # seconds after a change of the load until it is measured
MEASURED = 6.0
CALM = 12.0  # seconds after the load is half again, in which LTE falls silent
FITS = 0.7  # of xDSL's rate: all that is carried goes on it
USED = 0.1  # of its rate: LTE has reacted
SILENT = 0.01


def run(family: int, progress: Progress) -> Figures:
    rows = []
    for way in WAYS:
        progress(f"a connection {way} with more and more, and then less, to carry, IPv{family}")
        with Pair(cpe_options=OVERFLOW) as pair, flowing(pair.lab, family, way) as stream:
            rows.append(loads(pair, stream, way, family))
            rows[-1]["lost_bytes"] = stream.end()
    pictures = [row.pop("rates") for row in rows]
    return {
        "rates": pictures[0],
        "loads": rows,
        "idle_lte_share": max(row["idle_lte_share"] for row in rows),
        "half_lte_share": max(row["half_lte_share"] for row in rows),
        "full_efficiency": min(row["full_efficiency"] for row in rows),
        "reacts_s": max(row["reacts_s"] for row in rows),
        "rests_s": max(row["rests_s"] for row in rows),
        "lost_bytes": sum(row["lost_bytes"] for row in rows),
    }


def loads(pair: Pair, stream: Stream, way: Way, family: int) -> Figures:
    """One connection's life."""
    figures: Figures = {"direction": way}
    marks: list[Mark] = []
    for name, load in (("idle", IDLE), ("half", HALF), ("full", None)):
        began = time.monotonic()
        marks.append((began, f"the load is {load:.0%} of xdsl" if load else "the load is as much as goes"))
        stream.rate = None if load is None else load * pair.lab.xdsl.capacity(way, family)
        time.sleep(SETTLES)
        before, received = carried(pair, way), stream.received
        time.sleep(MEASURED)
        after = carried(pair, way)
        moved = {access: after[access] - before[access] for access in after}
        figures[f"{name}_lte_share"] = round(moved["lte"] / sum(moved.values()), 4)
    rate = 8 * (stream.received - received) / MEASURED
    figures["full_mbps"] = round(rate / 1e6, 2)
    figures["full_efficiency"] = round(rate / pair.capacity(way, family), 3)
    figures["reacts_s"] = first(pair, way, began)
    began = time.monotonic()
    marks.append((began, f"the load is {HALF:.0%} again"))
    stream.rate = HALF * pair.lab.xdsl.capacity(way, family)
    time.sleep(CALM)
    figures["rates"] = pair.lab.rates(way, marks[0][0], [*marks, *pair.cpe.uses()])
    return figures | rests(pair, way, began)


def carried(pair: Pair, way: Way) -> dict[str, int]:
    return {access.name: access.stats()[way]["bytes"] for access in pair.lab.accesses}


def most(access: Access, way: Way) -> float:
    """Mbit/s."""
    return (access.profile.rate_down if way == "down" else access.profile.rate_up) / 1e6


def first(pair: Pair, way: Way, began: float) -> float:
    """Seconds until LTE was used."""
    rates = pair.lab.rates(way, began)
    lte, interval = rates["mbit"]["lte"], float(rates["interval"])
    used = (place for place, rate in enumerate(lte) if rate > USED * most(pair.lab.lte, way))
    return round(interval * next(used, len(lte)), 1)


def rests(pair: Pair, way: Way, began: float) -> Figures:
    """Seconds until what waited had gone and all that was carried fitted the line; from then until LTE was silent."""
    rates = pair.lab.rates(way, began)
    lte, xdsl, interval = rates["mbit"]["lte"], rates["mbit"]["xdsl"], float(rates["interval"])
    fitted = after(map(sum, zip(lte, xdsl, strict=True)), FITS * most(pair.lab.xdsl, way))
    silent = after(lte, SILENT * most(pair.lab.lte, way))
    return {"drains_s": round(interval * fitted, 1), "rests_s": round(interval * (silent - fitted), 1)}


def after(rates: Iterable[float], limit: float) -> int:
    """The place after the last rate above the limit."""
    return max((place for place, rate in enumerate(rates) if rate > limit), default=-1) + 1


SCENARIO = Scenario(
    name="overflow",
    summary="what LTE carries of one connection while xDSL is idle, half loaded and full, and how soon",
    run=run,
    bounds=(
        Bound("idle_lte_share", at_most=0.02),
        Bound("half_lte_share", at_most=0.02),
        Bound("full_efficiency", at_least=0.90),
        Bound("reacts_s", at_most=2),
        Bound("rests_s", at_most=4),
        Bound("lost_bytes", at_most=0),
    ),
)
