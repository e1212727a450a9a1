# SPDX-License-Identifier: GPL-2.0-or-later
"""What each box takes for one thing: a connection from its SYN to its end, a gigabyte, a SYN that passes unbonded."""

from bench import cpu, short, throughput
from bench.bed import Bed
from bench.results import Sample
from lab.access import WAYS

NAME = "what a box takes"
FLOWS = 50
BOXES = ("cpe", "hag")


def measure(bed: Bed, unbonded: str, seconds: int) -> Sample:
    """`unbonded` is an address of the server to which the CPE lets connections pass."""
    sample: Sample = {}
    before = _look(bed)
    opened = short.measure(bed, seconds)
    sample |= _each(bed, before, opened["connections"] / 1e6, "flow_us")
    before = _look(bed)
    passed = short.measure(bed, seconds, unbonded)
    sample |= _each(bed, before, passed["connections"] / 1e6, "pass_us")
    for way in WAYS:
        before = _look(bed)
        moved = throughput.measure(bed, way, FLOWS, seconds)
        sample |= _each(bed, before, moved["gb"], f"{way}_gb_s")
    return sample


def _look(bed: Bed) -> dict[str, cpu.Usage]:
    return {"cpe": cpu.look(bed.lab.cpe.pids()), "hag": cpu.look(bed.lab.hag.pids())}


def _each(bed: Bed, before: dict[str, cpu.Usage], number: float, figure: str) -> Sample:
    """Processor time of each box's processes by number, and that of the whole machine."""
    after = _look(bed)
    spent = {box: after[box].since(before[box]) for box in BOXES}
    times = {f"{box}_{figure}": spent[box].processes / number for box in BOXES}
    return {**times, f"machine_{figure}": spent["hag"].busy / number}
