# SPDX-License-Identifier: GPL-2.0-or-later
"""One access becomes slow to answer in mid-flow: how soon a connection is on the other one, and back."""

import time

from lab.access import WAYS, Way
from lab.bonded import Pair
from lab.scenario import Bound, Figures, Progress, Scenario
from lab.stream import Stream, flowing

RATE = 2e6  # bit/s: what fills no access, so that no packets wait for each other
SLOW = 0.2  # seconds of delay, one way
WATCHED = 10.0  # seconds before, during and after
BURST = 1.0  # seconds until what was sent before there was a rate has gone
MOVED = 0.1  # of the rate: less is no traffic of the connection


def run(family: int, progress: Progress) -> Figures:
    rows = []
    for way in WAYS:
        progress(f"xdsl is slow to answer during a transfer {way}, IPv{family}")
        with Pair(cpe_options={"steering": "smallest-delay"}) as pair, flowing(pair.lab, family, way) as stream:
            rows.append({"direction": way, **moves(pair, stream, way), "lost_bytes": stream.end()})
    pictures = [row.pop("rates") for row in rows]
    return {
        "rates": pictures[0],
        "moves": rows,
        "lte_share_before": max(row["lte_share_before"] for row in rows),
        "away_s": max(row["away_s"] for row in rows),
        "back_s": max(row["back_s"] for row in rows),
        "lost_bytes": sum(row["lost_bytes"] for row in rows),
    }


def moves(pair: Pair, stream: Stream, way: Way) -> Figures:
    stream.rate = RATE
    began, delay = time.monotonic(), pair.lab.xdsl.profile.delay
    time.sleep(WATCHED)
    before = pair.lab.rates(way, began)["mbit"]
    pair.lab.xdsl.set(delay=SLOW)
    slow = time.monotonic()
    time.sleep(WATCHED)
    away = left(pair, way, slow, "xdsl")
    pair.lab.xdsl.set(delay=delay)
    mended = time.monotonic()
    time.sleep(WATCHED)
    marks = [(slow, f"xdsl takes {1000 * SLOW:.0f} ms"), (mended, f"xdsl takes {1000 * delay:.0f} ms again")]
    return {
        "rates": pair.lab.rates(way, began + BURST, [*marks, *pair.cpe.uses()]),
        "lte_share_before": round(sum(before["lte"]) / (sum(before["lte"]) + sum(before["xdsl"])), 4),
        "away_s": away,
        "back_s": left(pair, way, mended, "lte"),
    }


def left(pair: Pair, way: Way, since: float, name: str) -> float:
    """Seconds until that access carried nothing of the connection any more."""
    rates = pair.lab.rates(way, since)
    used = [place for place, rate in enumerate(rates["mbit"][name]) if rate > MOVED * RATE / 1e6]
    return round(float(rates["interval"]) * (max(used, default=-1) + 1), 1)


SCENARIO = Scenario(
    name="smallest-delay",
    summary="one access becomes slow to answer: when a connection has moved to the other, and when it is back",
    run=run,
    bounds=(
        Bound("lte_share_before", at_most=0.02),
        Bound("away_s", at_most=3),
        Bound("back_s", at_most=6),
        Bound("lost_bytes", at_most=0),
    ),
)
