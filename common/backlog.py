# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of a long transfer may be on its way over its subflows. Pure: what the kernel says of them in, bytes out.

The kernel gives each subflow what its own window may need, and more as that grows: hundreds of milliseconds of a slow
line, in front of everything that comes after. When the other subflow is lost, what was on it is sent again, behind
that; and until it arrives the receiver has nothing, whatever else does. So what is on its way is bounded to what the
paths carry in the longest round trip, with half as much again for a start, and a tenth of a second of queue.

What is late on one path has the bytes that came over another wait at the receiver, not acknowledged. A bound without
them would leave nothing for the faster path, so they come on top of it; so does what a path has to do for longer than
the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

HEAVY: Final = 1 << 20  # bytes that a connection has sent before it is looked at

_ROUND_TRIPS: Final = 1.5
_QUEUE: Final = 0.11  # seconds
_LEAST: Final = 64 * 1024
_MOST: Final = 4 << 20  # bytes; from there on the kernel's own limits are as good
_FADES: Final = 0.8  # of the rate from look to look: one slow moment is none
_LASTS: Final = 0.9  # of what is late: a path that was late is so again
_CHANGE: Final = 1.2  # times, that it takes to change what was said


@dataclass(frozen=True, slots=True)
class Path:
    """A subflow: what it delivers (bytes/s), its shortest round trip (seconds), and what it has still to deliver
    (bytes): sent and not acknowledged, or not sent. ``srtt`` is a round trip of now, with whatever queues there are."""

    rate: float
    rtt: float
    left: int = 0
    srtt: float = 0.0


@dataclass(slots=True)
class Backlog:
    """That of one connection, looked at a few times a second while it sends. ``seen`` is for whoever looks."""

    seen: tuple[int, int] = (0, 0)  # bytes sent so far, and of them those not acknowledged, at the last look
    bound: int | None = None
    _rate: float = 0.0
    _late: float | None = None

    def room(self, paths: Sequence[Path], waiting: int) -> int | None:
        """A new bound in bytes; None if all stays as it is. ``waiting`` bytes are with the kernel and not acknowledged.

        The first one is for several subflows; it only gets less while it is used up: who sends little now may have to
        send much soon.
        """
        self._rate = max(sum(path.rate for path in paths), self._rate * _FADES)
        at_work = [path for path in paths if path.rate]
        if not at_work:
            return None
        # no less than a round trip of now: what is bounded to less gets slower, and would be bounded to less again
        trip = max(path.srtt for path in at_work)
        time = max(trip, _ROUND_TRIPS * max(path.rtt for path in at_work) + _QUEUE)
        drained = max(time, min(path.left / path.rate for path in at_work))
        late = sum(max(0.0, path.left - path.rate * drained) for path in paths)  # all of it where nothing arrives
        # over a single one nothing waits for another: what was on one that is gone is to be sent again, no more
        held = max(0, waiting - sum(path.left for path in paths)) if len(at_work) > 1 else 0
        # at first all that it has is taken for late: it gets less little by little
        self._late = max(late + held, waiting if self._late is None else self._late * _LASTS)
        wanted = max(_LEAST, int(self._rate * time + self._late))
        filled = waiting > wanted
        if self.bound is None:
            changes = filled and len(at_work) > 1 and wanted < _MOST
        else:  # also over the one that is left: what it has when the other comes back, is late
            changes = wanted > self.bound * _CHANGE or (filled and wanted * _CHANGE < self.bound)
        if not changes:
            return None
        self.bound = min(wanted, 2 * _MOST)
        return self.bound
