# SPDX-License-Identifier: GPL-2.0-or-later
"""One file down and one up, over both accesses together, and beside it over each alone."""

from lab.bonded import Pair
from lab.scenario import Bound, Figures, Progress, Scenario

DOWN = 125_000_000  # bytes: 22 seconds of both accesses
UP = 40_000_000
ALONE = 10.0  # seconds that a download over one access takes


def run(family: int, progress: Progress) -> Figures:
    figures: Figures = {}
    with Pair() as pair:
        progress(f"downloading {DOWN / 1e6:g} MB over both accesses, IPv{family}")
        down = pair.download(family, DOWN)
        figures["rates"] = pair.lab.rates("down")
        carried = {access.name: access.stats()["down"]["bytes"] for access in pair.lab.accesses}
    with Pair() as pair:
        progress(f"uploading {UP / 1e6:g} MB over both accesses, IPv{family}")
        up = pair.upload(family, UP)
        capacity_down, capacity_up = pair.capacity("down", family), pair.capacity("up", family)
    xdsl, lte = (alone(family, name, progress) for name in ("xdsl", "lte"))
    return {
        "down_mbps": megabits(down.rate),
        "up_mbps": megabits(up.rate),
        "xdsl_only_down_mbps": megabits(xdsl),
        "lte_only_down_mbps": megabits(lte),
        "capacity_down_mbps": megabits(capacity_down),
        "capacity_up_mbps": megabits(capacity_up),
        "efficiency_down": round(down.rate / capacity_down, 3),
        "efficiency_up": round(up.rate / capacity_up, 3),
        "sha256_ok": down.intact and up.intact,
        "lte_share_down": round(carried["lte"] / sum(carried.values()), 3),
        **figures,
    }


def alone(family: int, name: str, progress: Progress) -> float:
    """bit/s of a download through the same daemons with this link only."""
    with Pair(only=name) as pair:
        size = int(pair.capacity("down", family) * ALONE / 8)
        progress(f"downloading {size / 1e6:.0f} MB over {name} alone, IPv{family}")
        return pair.download(family, size).rate


def megabits(rate: float) -> float:
    return round(rate / 1e6, 2)


SCENARIO = Scenario(
    name="bonding",
    summary="a file down and up over both accesses, against each alone and against their capacity",
    run=run,
    bounds=(
        Bound("efficiency_down", at_least=0.90),
        Bound("efficiency_up", at_least=0.90),
        Bound("sha256_ok", at_least=1),
    ),
)
