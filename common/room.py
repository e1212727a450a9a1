# SPDX-License-Identifier: GPL-2.0-or-later
"""The room for connections that one worker has at a gate, and who takes it up. Pure: hosts in, reasons out.

Senders with made-up addresses take up what may be half-open: half of that is for hosts that have opened a connection
before, as no such sender has. And no host has all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

_SHARE: Final = 4  # hosts that it takes to use up what may be half-open
_KNOWN: Final = 16384  # hosts that are remembered to have opened a connection


@dataclass(frozen=True, slots=True)
class Limits:
    """What one worker may have at a time, so that its descriptors suffice."""

    flows: int
    flows_of_one: int  # of one host
    pipes: int
    opening: int  # held or released, so that the listener never has to resort to SYN cookies (see common/workers.py)


class Room:
    """Counts connections, and those of them that are still opening, in all and by host."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._flows = 0
        self._opening = 0
        self._flows_of: Counter[Hashable] = Counter()
        self._opening_of: Counter[Hashable] = Counter()
        self._known: dict[Hashable, None] = {}  # hosts that do finish what they begin, the latest one last

    def full(self, host: Hashable) -> str | None:
        """Why no further connection can be had now, or none of this host; None if one can."""
        limits = self.limits
        if self._flows >= limits.flows:
            return "table full"
        if self._flows_of[host] >= limits.flows_of_one:
            return "too many connections of this subscriber"
        if self._opening >= (limits.opening if host in self._known else limits.opening // 2):
            return "too many half-open connections"
        if self._opening_of[host] >= limits.opening // _SHARE:
            return "too many half-open connections of this host"
        return None

    def crowded(self, host: Hashable) -> bool:
        """Whether so many are opening, or so many of this host, that each had better not take long."""
        most = self.limits.opening
        return 4 * self._opening >= most or 8 * self._opening_of[host] >= most

    def take(self, host: Hashable) -> None:
        """A connection of the host begins."""
        self._flows += 1
        self._opening += 1
        self._flows_of[host] += 1
        self._opening_of[host] += 1

    def opens_no_more(self, host: Hashable) -> None:
        """One of those that were opening is open, or is not going to be."""
        self._opening -= 1
        _one_less(self._opening_of, host)

    def remember(self, host: Hashable) -> None:
        """The host has opened a connection."""
        self._known.pop(host, None)
        self._known[host] = None
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]

    def leave(self, host: Hashable) -> None:
        """A connection of the host has ended; if it was opening, that has been said before."""
        self._flows -= 1
        _one_less(self._flows_of, host)


def _one_less(counter: Counter[Hashable], host: Hashable) -> None:
    counter[host] -= 1
    if not counter[host]:
        del counter[host]
