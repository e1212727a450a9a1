# SPDX-License-Identifier: GPL-2.0-or-later
"""How the pair grows with its workers: one of them beside two, each with a small share of a processor.

Where boxes, client and server have a few processors together, these are the limit, and more workers are no faster. So
each worker gets SHARE of one and no more. That nothing else is the limit then, three figures of the same run say: the
processors are idle for a part of the time, the workers have used up their share in nearly every period, and the same
two workers without a quota carry more, so that client and server could have asked for more.
"""

import contextlib

from bench import cpu, short, throughput
from bench.bed import Bed
from bench.hybrid import Hybrid
from bench.quota import Quota
from bench.results import Results, Sample
from lab.access import WAYS, Way
from lab.daemons import Daemon, cpe_daemon, hag_daemon
from lab.scenario import Progress

SHARE = 0.1
FLOWS = 50
ROUNDS = 3

SHORT = "short connections, by workers"
THROUGHPUT = tuple(f"{FLOWS} flows {way}, by workers" for way in WAYS)


Boxes = list[list[Quota]]  # of the workers of each box that is limited


class Workers(Hybrid):
    """`gateway` workers on the HAG, `router` on the CPE; those of the HAG, or of both boxes, have `share` each."""

    gateway = 1
    router = 1
    share: float | None = SHARE
    both = False

    def start(self) -> None:
        hag = hag_daemon(self.lab, {"workers": self.gateway})
        cpe = cpe_daemon(self.lab, {"workers": self.router})
        hag.start()
        cpe.start()
        self._limited: list[Daemon] = [hag, cpe] if self.both else [hag]

    def limit(self, undo: contextlib.ExitStack) -> Boxes:
        """Holds the workers to their share until `undo`; nothing without one."""
        boxes: Boxes = []
        for daemon in self._limited if self.share is not None else ():
            boxes.append([])
            for worker in daemon.status()["workers"]:
                boxes[-1].append(Quota(worker["pid"], self.share or 1.0))
                undo.callback(boxes[-1][-1].close)
        return boxes


class OneOnHag(Workers):
    name = "1 worker on the HAG"


class TwoOnHag(Workers):
    name = "2 workers on the HAG"
    gateway = 2


class OneOnBoth(Workers):
    name = "1 worker on each box"
    both = True


class TwoOnBoth(Workers):
    name = "2 workers on each box"
    gateway = router = 2
    both = True


class Unlimited(TwoOnBoth):
    name = "2 workers on each box, no quota"
    share = None


# where the workers are, and one of them beside two
PAIRS = (("on the HAG", OneOnHag, TwoOnHag), ("on each box", OneOnBoth, TwoOnBoth))
KINDS = (OneOnHag, TwoOnHag, OneOnBoth, TwoOnBoth, Unlimited)


def run(results: Results, seconds: int, family: int, progress: Progress) -> None:
    """Raises LabError when something cannot be measured, SystemLacksError where processes can have no quota."""
    with contextlib.ExitStack() as undo:
        beds: list[tuple[Bed, Boxes]] = []
        for kind in KINDS:
            progress(f"starting {kind.name}")
            bed = undo.enter_context(Bed(kind, family))
            assert isinstance(bed.peer, Workers)
            beds.append((bed, bed.peer.limit(undo)))
        for number in range(1, ROUNDS + 1):
            for name, way in ((SHORT, None), *zip(THROUGHPUT, WAYS, strict=True)):
                for bed, boxes in beds:
                    progress(f"round {number} of {ROUNDS}: {name}, {bed.name}")
                    results.add(name, bed.name, _measure(bed, boxes, way, seconds))


def _measure(bed: Bed, boxes: Boxes, way: Way | None, seconds: int) -> Sample:
    """With the share of the machine's time that was idle, and of the periods that all workers of a box had used up.

    The latter is that of the box which is the limit: the other one waits for it.
    """
    before, periods = cpu.look(()), [[quota.look() for quota in box] for box in boxes]
    sample = throughput.measure(bed, way, FLOWS, seconds) if way else short.measure(bed, seconds)
    spent = cpu.look(()).since(before)
    sample["idle"] = spent.idle / (spent.idle + spent.busy)
    if boxes:
        sample["used_up"] = max(
            min(quota.look().since(then) for quota, then in zip(box, at_first, strict=True))
            for box, at_first in zip(boxes, periods, strict=True)
        )
    return sample
