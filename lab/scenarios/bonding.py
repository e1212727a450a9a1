# SPDX-License-Identifier: GPL-2.0-or-later
"""One file down and one up, over both accesses together, and beside it over each alone. Steering is the default one."""

from functools import partial

from lab.access import LTE, XDSL, Profile
from lab.bonded import Pair
from lab.daemons import OVERFLOW
from lab.scenario import Bound, Figures, Progress, Scenario

TOGETHER = 21.0  # seconds that both accesses take for a file, if nothing is lost on the way
ALONE = 10.0  # and one of them


def run(
    family: int,
    progress: Progress,
    xdsl: Profile = XDSL,
    lte: Profile = LTE,
    together: float = TOGETHER,
    alone: float = ALONE,
) -> Figures:
    figures: Figures = {}
    with Pair(xdsl=xdsl, lte=lte, cpe_options=OVERFLOW) as pair:
        size = int(pair.capacity("down", family) * together / 8)
        progress(f"downloading {size / 1e6:.0f} MB over both accesses, IPv{family}")
        down = pair.download(family, size)
        figures["rates"] = pair.lab.rates("down")
        carried = {access.name: access.stats()["down"]["bytes"] for access in pair.lab.accesses}
    with Pair(xdsl=xdsl, lte=lte, cpe_options=OVERFLOW) as pair:
        size = int(pair.capacity("up", family) * together / 8)
        progress(f"uploading {size / 1e6:.0f} MB over both accesses, IPv{family}")
        up = pair.upload(family, size)
        capacity_down, capacity_up = pair.capacity("down", family), pair.capacity("up", family)
    xdsl_rate, lte_rate = (over_one(name, family, progress, xdsl, lte, alone) for name in ("xdsl", "lte"))
    return {
        "down_mbps": megabits(down.rate),
        "up_mbps": megabits(up.rate),
        "xdsl_only_down_mbps": megabits(xdsl_rate),
        "lte_only_down_mbps": megabits(lte_rate),
        "capacity_down_mbps": megabits(capacity_down),
        "capacity_up_mbps": megabits(capacity_up),
        "efficiency_down": round(down.rate / capacity_down, 3),
        "efficiency_up": round(up.rate / capacity_up, 3),
        "sha256_ok": down.intact and up.intact,
        "lte_share_down": round(carried["lte"] / sum(carried.values()), 3),
        **figures,
    }


def over_one(name: str, family: int, progress: Progress, xdsl: Profile, lte: Profile, seconds: float) -> float:
    """bit/s of a download through the same daemons with this link only."""
    with Pair(xdsl=xdsl, lte=lte, only=name) as pair:
        size = int(pair.capacity("down", family) * seconds / 8)
        progress(f"downloading {size / 1e6:.0f} MB over {name} alone, IPv{family}")
        return pair.download(family, size).rate


def megabits(rate: float) -> float:
    return round(rate / 1e6, 2)


def bounds(efficiency: float) -> tuple[Bound, ...]:
    return (
        Bound("efficiency_down", at_least=efficiency),
        Bound("efficiency_up", at_least=efficiency),
        Bound("sha256_ok", at_least=1),
    )


SCENARIO = Scenario(
    name="bonding",
    summary="a file down and up over both accesses, against each alone and against their capacity",
    run=run,
    bounds=bounds(0.90),
    slow=Scenario(
        name="bonding",
        summary="a file down and up over both accesses, each at a tenth of its rate",
        run=partial(run, xdsl=XDSL.slower(10), lte=LTE.slower(10), together=12, alone=4),
        # LTE carries three of five parts down and two of three up: neither does it alone.
        bounds=(*bounds(0.75), Bound("lte_share_down", at_least=0.4, at_most=0.75)),
    ),
)
