# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured, in which order: round after round, and in each round every peer after the other (A B A B)."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from bench import costs, idle, opening, rest, scaling, short, throughput
from bench.bed import Bed
from bench.haproxy import Haproxy, HaproxyWithoutJoins
from bench.hybrid import Buffer1M, Buffer2M, Buffer4M, Buffer32M, Hybrid
from bench.idle import Crowded, Look
from bench.kernel_mptcp import KernelMptcp
from bench.peer import Peer
from bench.results import Results, Sample
from lab.access import WAYS, Way
from lab.errors import LabError, SystemLacksError
from lab.scenario import Progress
from lab.services import require

SHORT = "short connections"
MANY = "many short connections"
OPENING = "opening at half load"
TRIES = 3


@dataclass(frozen=True, slots=True)
class Course:
    """`seconds` of each measurement; `many` connections in a row at the end, and `idle` ones at the same time.

    A measure without peers, or without connections, is left out. `scaling` is the seconds of each measurement of one
    and two workers.
    """

    rounds: int
    seconds: int
    flows: Sequence[int] = (1, 50)
    throughput: Sequence[type[Peer]] = ()
    short: Sequence[type[Peer]] = ()
    opening: Sequence[type[Peer]] = ()
    many: int = 0
    idle: Sequence[int] = ()
    scaling: int = 0


FULL = Course(
    rounds=5,
    seconds=3,
    throughput=(Hybrid, Haproxy, KernelMptcp, Peer),
    short=(Hybrid, HaproxyWithoutJoins, Haproxy, Peer),
    opening=(Hybrid, HaproxyWithoutJoins, Peer),
    many=100_000,
    idle=(1000, 4000, 10_000),
    scaling=2,
)
# What fits into less than a minute: rounds are fewer and shorter, so spreads are wider.
BRIEF = Course(
    rounds=2,
    seconds=1,
    throughput=(Hybrid, Haproxy, KernelMptcp),
    short=(Hybrid, HaproxyWithoutJoins),
)

# What docs/scale.md is made of, in a minute.
CROWD = Course(rounds=0, seconds=FULL.seconds, idle=FULL.idle)
# The default beside other bounds on what a connection may have on a box.
BUFFERS = Course(
    rounds=5,
    seconds=2,
    throughput=(Hybrid, Buffer32M, Buffer4M, Buffer2M, Buffer1M),
    short=(Hybrid, Buffer32M, Buffer4M, Buffer2M, Buffer1M),
)


def throughput_measure(flows: int, way: Way) -> str:
    return f"{flows} {'flow' if flows == 1 else 'flows'} {way}"


def run(course: Course, family: int, progress: Progress) -> Results:
    """Raises LabError when something cannot be measured, SystemLacksError when a peer's program is not installed."""
    peers = list(dict.fromkeys((*course.throughput, *course.short, *course.opening)))
    require("ab", *(program for peer in peers for program in peer.programs))
    results = Results()
    with contextlib.ExitStack() as undo:
        beds: dict[type[Peer], Bed] = {}
        for peer in peers:
            progress(f"starting {peer.name}")
            beds[peer] = undo.enter_context(Bed(peer, family))
        for number in range(1, course.rounds + 1):
            where = f"round {number} of {course.rounds}"
            for flows in course.flows:
                for way in WAYS:
                    measure = throughput_measure(flows, way)
                    for bed in (beds[peer] for peer in course.throughput):
                        progress(f"{where}: {measure}, {bed.name}")
                        results.add(measure, bed.name, transfer(results, bed, way, flows, course.seconds, progress))
            for bed in (beds[peer] for peer in course.short):
                progress(f"{where}: {SHORT}, {bed.name}")
                results.add(SHORT, bed.name, short.measure(bed, course.seconds))
            for bed in (beds[peer] for peer in course.opening):
                progress(f"{where}: {OPENING}, {bed.name}")
                rate = results.values(SHORT, Hybrid.name, "per_second")[0] / 2
                results.add(OPENING, bed.name, opening.measure(bed, rate, course.seconds))
        if course.many:
            progress(f"{course.many} short connections, {Hybrid.name}")
            results.add(MANY, Hybrid.name, short.endure(beds[Hybrid], course.many))
    if course.idle:
        crowd(course, family, results, progress)
    if course.scaling:
        try:
            scaling.run(results, course.scaling, family, progress)
        except SystemLacksError as lack:
            progress(f"one and two workers are left out: {lack}")
    return results


def transfer(results: Results, bed: Bed, way: Way, flows: int, seconds: int, progress: Progress) -> Sample:
    """One that comes to nothing is counted and made again, up to three times in all: whoever's flows stand still now
    and then, the others' figures are not lost for it. Raises LabError."""
    for _ in range(TRIES - 1):
        try:
            return throughput.measure(bed, way, flows, seconds)
        except LabError as error:
            progress(f"once more: {error}")
            name = f"{throughput_measure(flows, way)}, {bed.name}"
            results.again[name] = results.again.get(name, 0) + 1
            bed.iperf.restart()
    return throughput.measure(bed, way, flows, seconds)


def crowd(course: Course, family: int, results: Results, progress: Progress) -> None:
    """What each box takes for nothing, for one thing, and what the pair takes for connections that wait."""
    progress(rest.NAME)
    results.add(rest.NAME, Hybrid.name, rest.measure())
    with Bed(Crowded, family) as bed:
        results.add(idle.name(0), bed.name, idle.resident(Look.now(bed)))
        progress(costs.NAME)
        results.add(costs.NAME, bed.name, costs.measure(bed, idle.unbonded(family), course.seconds))
        for measure, sample in idle.measure(bed, course.idle, progress):
            results.add(measure, bed.name, sample)
