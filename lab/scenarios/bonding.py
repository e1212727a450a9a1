# SPDX-License-Identifier: GPL-2.0-or-later
"""One file down and one up, over both accesses together, and beside it over each alone. Steering is the default one."""

from lab.access import LTE, XDSL, Profile
from lab.bonded import Pair
from lab.daemons import OVERFLOW
from lab.scenario import Bound, Figures, Progress, Scenario

TOGETHER = 21.0  # seconds that both accesses take for a file, if nothing is lost on the way
ALONE = 10.0  # and one of them
SLOWLY = 20.0  # and both where they are slower
# Times: some 250 packets/s of data each way, few enough that the accesses are the limit on an emulated processor too.
SLOWER_DOWN, SLOWER_UP = 20, 5


def run(family: int, progress: Progress) -> Figures:
    alone = {f"{name}_only_down_mbps": megabits(over_one(name, family, progress)) for name in ("xdsl", "lte")}
    return {**together(family, progress, XDSL, LTE, TOGETHER), **alone}


def run_slowly(family: int, progress: Progress) -> Figures:
    """Nothing over one access alone, on which there is no bound."""
    xdsl, lte = (profile.slower(SLOWER_DOWN, SLOWER_UP) for profile in (XDSL, LTE))
    return together(family, progress, xdsl, lte, SLOWLY)


def together(family: int, progress: Progress, xdsl: Profile, lte: Profile, seconds: float) -> Figures:
    """Each way through a pair of its own, as if it were the first."""
    with Pair(xdsl=xdsl, lte=lte, cpe_options=OVERFLOW) as pair:
        down = download(pair, family, progress, seconds)
    with Pair(xdsl=xdsl, lte=lte, cpe_options=OVERFLOW) as pair:
        up = upload(pair, family, progress, seconds)
    return {**down, **up, "sha256_ok": down["sha256_ok"] and up["sha256_ok"]}


def download(pair: Pair, family: int, progress: Progress, seconds: float) -> Figures:
    capacity = pair.capacity("down", family)
    size = int(capacity * seconds / 8)
    progress(f"downloading {size / 1e6:.1f} MB over both accesses, IPv{family}")
    down = pair.download(family, size)
    carried = {access.name: access.stats()["down"]["bytes"] for access in pair.lab.accesses}
    return {
        "down_mbps": megabits(down.rate),
        "capacity_down_mbps": megabits(capacity),
        "efficiency_down": round(down.rate / capacity, 3),
        "sha256_ok": down.intact,
        "lte_share_down": round(carried["lte"] / sum(carried.values()), 3),
        "rates": pair.lab.rates("down"),
    }


def upload(pair: Pair, family: int, progress: Progress, seconds: float) -> Figures:
    capacity = pair.capacity("up", family)
    size = int(capacity * seconds / 8)
    progress(f"uploading {size / 1e6:.1f} MB over both accesses, IPv{family}")
    up = pair.upload(family, size)
    return {
        "up_mbps": megabits(up.rate),
        "capacity_up_mbps": megabits(capacity),
        "efficiency_up": round(up.rate / capacity, 3),
        "sha256_ok": up.intact,
    }


def over_one(name: str, family: int, progress: Progress) -> float:
    """bit/s of a download through the same daemons with this link only."""
    with Pair(only=name) as pair:
        size = int(pair.capacity("down", family) * ALONE / 8)
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
        summary="a file down and up over both accesses, which are slower",
        run=run_slowly,
        # A processor that is emulated, and not alone, is late now and then. LTE carries three of five parts down and
        # two of three up: neither does it alone.
        bounds=(*bounds(0.85), Bound("lte_share_down", at_least=0.4, at_most=0.75)),
    ),
)
