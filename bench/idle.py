# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of open connections: what each costs a box while it says nothing, and what new ones notice of them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from bench import cpu, opening
from bench.bed import Bed
from bench.footprint import Footprint, footprint, kernel_slab
from bench.hybrid import Hybrid
from bench.results import Sample
from lab.crowd import COUNT, Crowd, address, bring_addresses
from lab.daemons import Options, cpe_daemon, hag_daemon, section
from lab.scenario import Progress
from lab.servers import TcpServer

WORKERS = 2  # on each box: a process may have 20 000 open files on many a machine, and a flow takes two
SETTLED = 2.0  # seconds after the last connection
WATCHED = 5.0  # seconds for which they say nothing
SLOW = 5000  # connections that go on saying something,
PACE = 2500.0  # so many messages a second, all together
PROBES = 20.0  # new connections a second beside them
PROBED = 4.0  # seconds


def name(flows: int) -> str:
    return f"{flows} idle flows"


def unbonded(family: int) -> str:
    """An address of the server to which the CPE lets connections pass: none of the crowd's."""
    return address(family, COUNT)


SLOW_FLOWS = f"{SLOW} slow flows"


class Crowded(Hybrid):
    """With as many workers as so many connections need, and nobody who has had his share."""

    def start(self) -> None:
        workers: Options = {"workers": WORKERS}
        bring_addresses(self.lab, self.family)
        hag_daemon(self.lab, {**workers, "max_flows_per_subscriber": 20_000}).start()
        cpe_daemon(self.lab, workers, more=section("bypass", "unbonded", {"dst": [unbonded(self.family)]})).start()


@dataclass(frozen=True, slots=True)
class Look:
    """The boxes at one time, by 'cpe' and 'hag', and the machine's kernel."""

    boxes: dict[str, Footprint]
    usage: dict[str, cpu.Usage]
    slab: int

    @classmethod
    def now(cls, bed: Bed) -> Self:
        pids = {"cpe": bed.lab.cpe.pids(), "hag": bed.lab.hag.pids()}
        return cls(
            {box: footprint(found) for box, found in pids.items()},
            {box: cpu.look(found) for box, found in pids.items()},
            kernel_slab(),
        )


def measure(bed: Bed, stages: Sequence[int], progress: Progress) -> Iterator[tuple[str, Sample]]:
    """(measure, sample) for each number of connections, which are open at the same time. LabError if one is lost.

    To be called when the boxes have had connections before: with the first ones pages that the processes share become
    each one's own, which is no connection's price.
    """
    server = TcpServer(bed.lab.server)
    with Crowd(bed.lab, bed.family, server.port) as crowd:
        time.sleep(SETTLED)
        empty = before = Look.now(bed)
        for flows in stages:
            progress(name(flows))
            more = flows - len(crowd)
            crowd.open(more)
            crowd.exchange()
            time.sleep(SETTLED)
            opened = Look.now(bed)
            time.sleep(WATCHED)
            waited = Look.now(bed)
            yield name(flows), figures(empty, before, opened, waited, flows, more)
            before = waited
        progress(SLOW_FLOWS)
        if len(crowd) >= SLOW:
            with crowd.speaking(SLOW, PACE):
                yield SLOW_FLOWS, opening.measure(bed, PROBES, PROBED)
        progress(f"all of {len(crowd)} are asked")
        crowd.exchange()


def figures(empty: Look, before: Look, opened: Look, waited: Look, flows: int, more: int) -> Sample:
    """Bytes of user memory for each flow, all of them and the latest ones; of the kernel, client and server included.

    Microseconds of CPU for each that was opened; while nothing is said, the share of one processor in percent and
    wake-ups a second; the ends of pipes that are held, besides those that wait for use.
    """
    sample = resident(waited)
    for box in ("cpe", "hag"):
        grown = waited.boxes[box].proportional
        sample[f"{box}_bytes"] = (grown - empty.boxes[box].proportional) / flows
        sample[f"{box}_further_bytes"] = (grown - before.boxes[box].proportional) / more
        sample[f"{box}_open_us"] = opened.usage[box].since(before.usage[box]).processes / more * 1e6
        sample[f"{box}_idle_cpu"] = waited.usage[box].since(opened.usage[box]).processes / WATCHED * 100
        sample[f"{box}_wakeups"] = (waited.boxes[box].wakeups - opened.boxes[box].wakeups) / WATCHED
        sample[f"{box}_pipes"] = waited.boxes[box].pipes - empty.boxes[box].pipes
    sample["flows"] = flows
    sample["kernel_bytes"] = (waited.slab - empty.slab) / flows
    return sample


def resident(look: Look) -> Sample:
    """MiB of all processes of a box, counting what they share once, and each for itself."""
    sample: Sample = {}
    for box, found in look.boxes.items():
        sample |= {f"{box}_mib": found.proportional / 2**20, f"{box}_counted_mib": found.resident / 2**20}
    return sample
