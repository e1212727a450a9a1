# SPDX-License-Identifier: GPL-2.0-or-later
"""What one link carries now, of what it can. Pure: measurements in, an opinion out.

A rate that the configuration does not give is learned: it is the highest that the link has been seen to carry for a
while, slowly forgotten. Where the round trip grows far above what it has been at its best, packets wait, so the link
carries no more than it does now; then a rate that was learned comes down to that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW: Final = 0.4  # seconds over which what is carried is averaged: shorter bursts fill no link
_FULL: Final = 0.85  # of its rate; more is hard to tell from all of it, since TCP gives way now and then
_HALF: Final = 0.5  # of its rate, below which packets wait for other reasons than this link's load
_USED: Final = 0.25  # of a learned rate, below which they do, surely: more may be all that a line carries by now
_GROWN, _GROWN_BY = 1.5, 0.03  # round trips of which packets wait: times the best one, and seconds more than it
_HALF_LIFE_RATE: Final = 86400.0  # seconds in which half of a learned rate is forgotten
_HALF_LIFE_TRIP: Final = 3600.0  # and in which the best round trip doubles
TRICKLE: Final = 500_000  # bit/s: nobody learns from less what a link can carry
_YIELD: Final = 0.1  # of the difference, at each look: how fast a learned rate comes down where packets wait


@dataclass(frozen=True, slots=True)
class Carried:
    """A link's part in the time between two looks: bit/s, and the round trip to the HAG in seconds if it is known."""

    down: float
    up: float
    seconds: float
    rtt: float | None = None


class Way:
    """One direction of a link; ``rate`` in bit/s is what it can carry, as far as is known."""

    def __init__(self, configured: int | None) -> None:
        self.configured = configured
        self._learned = 0.0
        self._recent: deque[tuple[float, float]] = deque()  # (seconds, bits)
        self.mean = 0.0  # bit/s, over the window

    @property
    def rate(self) -> float | None:
        return self.configured or (self._learned if self._learned > TRICKLE else None)

    @property
    def load(self) -> float:
        """Of its rate; 0 while that is not known."""
        return self.mean / self.rate if self.rate and self._settled else 0.0

    @property
    def _settled(self) -> bool:
        return sum(seconds for seconds, _ in self._recent) >= 0.9 * WINDOW

    def note(self, rate: float, seconds: float) -> None:
        recent = self._recent
        recent.append((seconds, rate * seconds))
        while sum(it for it, _ in recent) - recent[0][0] >= WINDOW:
            recent.popleft()
        self.mean = sum(bits for _, bits in recent) / sum(it for it, _ in recent)
        self._learned *= 0.5 ** (seconds / _HALF_LIFE_RATE)
        if self._settled:
            self._learned = max(self._learned, self.mean)

    def yields(self) -> None:
        """It carries no more than it does now."""
        self._learned += (self.mean - self._learned) * _YIELD

    def pause(self) -> None:
        """Nobody has looked for a while: what was carried before says nothing."""
        self._recent.clear()
        self.mean = 0.0

    def __str__(self) -> str:
        known = f" of {rate(self.rate)}" if self.rate else ""
        return f"{rate(self.mean)}{known}"


class Capacity:
    """Of one link."""

    def __init__(self, rate_down: int | None, rate_up: int | None) -> None:
        """Rates as configured, in bit/s."""
        self.down, self.up = Way(rate_down), Way(rate_up)
        self.rtt: float | None = None
        self.best: float | None = None  # round trip, in seconds
        self.idle: float | None = None  # the last one of which nothing of ours was part

    def note(self, carried: Carried) -> None:
        self.down.note(carried.down, carried.seconds)
        self.up.note(carried.up, carried.seconds)
        self.rtt = carried.rtt
        if carried.rtt is None:
            return
        older = carried.rtt if self.best is None else self.best * 2 ** (carried.seconds / _HALF_LIFE_TRIP)
        self.best = min(carried.rtt, older)
        if max(self.down.mean, self.up.mean) < TRICKLE:
            self.idle = carried.rtt
        most = max(self.down, self.up, key=lambda way: way.load)
        # where little is carried a long round trip may be the way's own, but then it is as long without
        if self._waits() and (most.load >= _USED or self._waits_beyond(self.idle)):
            most.yields()

    def pause(self) -> None:
        self.down.pause()
        self.up.pause()

    def full(self) -> str | None:
        """Why the link has no room for more; None if it has."""
        for name, way in (("down", self.down), ("up", self.up)):
            # That packets wait is no condition: where the sender or the line keeps queues short, they never do.
            if way.load >= _FULL:
                return f"carries {way} {name}"
        if self._waits() and max(self.down.load, self.up.load) >= _HALF:
            assert self.rtt is not None
            assert self.best is not None
            return f"takes {self.rtt * 1000:.0f} ms for a round trip of {self.best * 1000:.0f} ms"
        return None

    def _waits(self) -> bool:
        """Whether packets wait for others."""
        return self._waits_beyond(self.best)

    def _waits_beyond(self, trip: float | None) -> bool:
        if self.rtt is None or trip is None:
            return False
        return self.rtt > max(trip * _GROWN, trip + _GROWN_BY)


def rate(bits: float | None) -> str:
    """Of bit/s: '19.6 Mbit/s'."""
    if bits is None:
        return "unknown"
    return f"{bits / 1e6:.3g} Mbit/s" if bits >= 1e6 else f"{bits / 1e3:.3g} kbit/s"
