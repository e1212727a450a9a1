# SPDX-License-Identifier: GPL-2.0-or-later
"""Which links carry, which wait as a backup, and why. Pure: what the links carry goes in, a use for each comes out.

A mode chooses among the links that are up, that nothing restricts and that have not been demoted, in the order of
preference: the primary one, then the others as the file has them. A link that it does not choose is a backup: its
subflows carry if no others do (RFC 8684, section 3.3.8). A flow has a lane: its policy, and a place among the links
for the mode that gives each flow one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from common.config import CpeConfig
from common.policy import Steering as Mode
from cpe.capacity import TRICKLE, Capacity, Carried, rate

_FITS: Final = 0.7  # of the rate of fewer links: what all carry goes on these again
_FITS_FOR: Final = 3.0  # seconds that it must
_FAR, _FAR_BY = 1.5, 0.02  # round trips that are far above another link's: times that, and seconds more
_FAR_FOR: Final = 0.5  # seconds after which a link that is so loses the traffic
_BACK_FOR: Final = 3.0  # seconds after which the preferred link gets it back, if it is no worse
# Seconds that traffic stays where it has moved, at least and at most: its own packets may be what waits there, and then
# it would move to and fro. Each move that comes within so many times the stay makes it twice as long.
_STAY, _LONGEST_STAY, _SOON = 3.0, 60.0, 4

_TOGETHER: Final = (Mode.OVERFLOW,)  # in which a link that slows others down is left out; `always` is always

DEFAULT: Final = ""  # the policy of flows that match none

Lane = tuple[str, str]  # policy, and the name of a link


class Use(Enum):
    """What a link is to a flow."""

    CARRY = "carry"
    BACKUP = "backup"
    NONE = "none"  # no subflow


class Allowed(Enum):
    """How far a link may be used at all."""

    FULL = "full"
    FAILOVER_ONLY = "failover only"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Choice:
    use: Use
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """In a mode that is in use, a link is used otherwise from now on."""

    mode: Mode
    link: str
    choice: Choice


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    capacity: Capacity


_DOWN: Final = Choice(Use.NONE, "down")


class Steering:
    """All modes at once, so that one that is asked for is ready.

    ``restricted`` and ``demoted`` are others' to set, by name of a link, with the reason; what they hold counts from
    the next look on. A demoted link slows others down, so it matters to the modes that give one flow several links; of
    these links those that are ``leaving`` are not even backups. Restricted beats demoted beats the mode, but if nothing
    else is up such a link carries all the same, unless it is allowed nothing.
    """

    def __init__(self, config: CpeConfig) -> None:
        links = (config.primary, *config.secondaries)
        self.capacities = {link.name: Capacity(link.rate_down, link.rate_up) for link in links}
        self.restricted: Mapping[str, tuple[Allowed, str]] = {}
        self.demoted: Mapping[str, str] = {}
        self.leaving: Collection[str] = ()
        self._overflow = _Overflow()
        self._delay = _SmallestDelay()
        self._credit = dict.fromkeys(self.capacities, 0.0)
        self._eligible: tuple[str, ...] = ()
        self._choices: dict[Mode, dict[str, Choice]] = {mode: {} for mode in Mode}
        self._given: Mode | None = None  # by the configuration
        self._modes: dict[str, Mode] = {}
        self.adopt(config)

    def adopt(self, config: CpeConfig) -> None:
        """The modes that this configuration gives. One that was set stays, unless the file has another than before."""
        mode = config.steering if config.steering is not self._given else self.mode
        self._given = config.steering
        self._modes = {DEFAULT: mode, **{policy.name: policy.steering for policy in config.policies}}

    @property
    def mode(self) -> Mode:
        """Of flows that match no policy."""
        return self._modes[DEFAULT]

    def set(self, mode: Mode) -> None:
        """The same from now on."""
        self._modes[DEFAULT] = mode

    @property
    def together(self) -> bool:
        """Whether any flow may have several links at a time, so that one can slow it down on the others."""
        return any(mode in _TOGETHER for mode in self._modes.values())

    @property
    def resting(self) -> bool:
        """Whether nothing would change if nobody looked for a while."""
        overflows = self._overflow.level > 1 and Mode.OVERFLOW in self._modes.values()
        strays = self._delay.strays and Mode.SMALLEST_DELAY in self._modes.values()
        return not (overflows or strays)

    def look(self, carried: Mapping[str, Carried], up: Collection[str], now: float) -> list[Change]:
        """``carried`` is what was measured since the last look; a link that it lacks was not.

        ``up`` are the links that can be used.
        """
        for name, capacity in self.capacities.items():
            if name not in up:
                capacity.pause()
            elif name in carried:
                capacity.note(carried[name])
        together, single = self._why_not(up, self.demoted), self._why_not(up, {})
        self._eligible = tuple(name for name in self.capacities if name not in single)
        self._overflow.look(self._candidates(together), now)
        self._delay.look(self._candidates(single), now)
        changes = []
        for mode in Mode:
            why_not = together if mode in _TOGETHER else single
            chosen = self._choose(mode, [name for name in self.capacities if name not in why_not])
            before, self._choices[mode] = self._choices[mode], {**chosen, **why_not}
            if mode in self._modes.values():
                changes += [
                    Change(mode, name, choice)
                    for name, choice in self._choices[mode].items()
                    if name not in before
                    or before[name].use is not choice.use
                    or (choice.reason != before[name].reason and choice.reason == self.demoted.get(name))
                ]
        return changes

    def pause(self) -> None:
        """Nobody has looked for a while."""
        for capacity in self.capacities.values():
            capacity.pause()

    def choices(self, mode: Mode) -> Mapping[str, Choice]:
        """By name of all links; nothing before the first look."""
        return self._choices[mode]

    def place(self) -> str:
        """The link that is the next flow's, in turn and in proportion to their rates (smooth weighted round robin)."""
        names = self._eligible or tuple(self.capacities)
        rates = {name: self.capacities[name].down.rate for name in names}
        weights = {name: rates[name] or 1.0 if all(rates.values()) else 1.0 for name in names}
        for name in names:
            self._credit[name] += weights[name] / sum(weights.values())
        placed = max(names, key=lambda name: self._credit[name])
        self._credit[placed] -= 1.0
        return placed

    def plans(self) -> dict[Lane, dict[str, Use]]:
        """What each link is to the flows of each lane."""
        lanes = itertools.product(self._modes.items(), self.capacities)
        return {(policy, place): self._plan(mode, place) for (policy, mode), place in lanes}

    def describe(self) -> list[dict[str, Any]]:
        """For people: the modes in use, and what each link is in them and why."""
        return [
            {
                "mode": mode.value,
                "links": [
                    {"name": name, "use": choice.use.value, "reason": choice.reason}
                    for name in self.capacities
                    if (choice := self._choices[mode].get(name))
                ],
            }
            for mode in dict.fromkeys(self._modes.values())
        ]

    def _plan(self, mode: Mode, place: str) -> dict[str, Use]:
        """A link that is down may be up before the next look: then it is a backup until that."""
        plan = {name: Use.BACKUP if choice is _DOWN else choice.use for name, choice in self._choices[mode].items()}
        if mode is Mode.LOAD_BALANCING and self._eligible:
            chosen = place if place in self._eligible else self._eligible[0]
            plan |= {name: Use.CARRY if name == chosen else Use.BACKUP for name in self._eligible}
        return plan

    def _candidates(self, why_not: Mapping[str, Choice]) -> list[_Candidate]:
        return [_Candidate(name, it) for name, it in self.capacities.items() if name not in why_not]

    def _why_not(self, up: Collection[str], demoted: Mapping[str, str]) -> dict[str, Choice]:
        """The links that may not be chosen."""
        barred = {}
        for name in self.capacities:
            allowed, restriction = self.restricted.get(name, (Allowed.FULL, ""))
            if name not in up:
                barred[name] = _DOWN
            elif allowed is Allowed.NONE:
                barred[name] = Choice(Use.NONE, restriction)
            elif allowed is Allowed.FAILOVER_ONLY:
                barred[name] = Choice(Use.BACKUP, restriction)
            elif name in demoted:
                barred[name] = Choice(Use.NONE if name in self.leaving else Use.BACKUP, demoted[name])
        if len(barred) == len(self.capacities):  # the kernel would use one of the backups anyhow
            backups = [name for name, choice in barred.items() if choice.use is Use.BACKUP]
            last = min(backups, key=lambda name: name in self.restricted, default=None)
            if last is not None:
                del barred[last]
        return barred

    def _choose(self, mode: Mode, names: Sequence[str]) -> dict[str, Choice]:
        match mode:
            case Mode.ALWAYS:
                return {name: Choice(Use.CARRY, "all links carry") for name in names}
            case Mode.LOAD_BALANCING:
                return {name: Choice(Use.CARRY, "each flow has a link of its own") for name in names}
            case Mode.ACTIVE_STANDBY:
                return _first(names, 1, "comes first", "waits until it is the only one")
            case Mode.OVERFLOW:
                return _first(names, self._overflow.level, "comes first", self._overflow.reason)
            case Mode.SMALLEST_DELAY:
                chosen, reason = self._delay.current, self._delay.reason
                return {name: Choice(Use.CARRY if name == chosen else Use.BACKUP, reason) for name in names}


def _first(names: Sequence[str], count: int, first: str, others: str) -> dict[str, Choice]:
    """So many of them carry."""
    return {
        name: Choice(Use.CARRY if place < count else Use.BACKUP, others if place else first)
        for place, name in enumerate(names)
    }


class _Overflow:
    """So many links, in their order, as it takes: one more when these are full, one fewer when fewer would do."""

    def __init__(self) -> None:
        self.level = 1
        self.reason = "not needed so far"
        self._fits_since: float | None = None

    def look(self, candidates: Sequence[_Candidate], now: float) -> None:
        if not candidates:
            self.level, self._fits_since = 1, None
        if self.level < len(candidates):
            full = [it.capacity.full() for it in candidates[: self.level]]
            if full and all(full):
                self.level += 1
                self.reason = f"{candidates[self.level - 2].name} {full[-1]}"
                self._fits_since = None
                return
        if self.level > 1 and (fits := _fits(candidates, self.level - 1)):
            self._fits_since = now if self._fits_since is None else self._fits_since
            if now - self._fits_since >= _FITS_FOR:
                self.level -= 1
                self.reason, self._fits_since = fits, None
        else:
            self._fits_since = None


def _fits(candidates: Sequence[_Candidate], count: int) -> str | None:
    """How what all of them carry goes on the first ones; None if it does not.

    A rate that is not known is that of which nobody learns: the way has never had more to carry, such as a download's
    acknowledgements.
    """
    fewer = candidates[:count]
    if all(it.capacity.full() for it in fewer):
        return None
    totals = []
    for ways in ([it.capacity.down for it in candidates], [it.capacity.up for it in candidates]):
        total = sum(way.mean for way in ways)
        if total > _FITS * sum(way.rate or TRICKLE for way in ways[:count]):
            return None
        totals.append(rate(total))
    return f"{totals[0]} down and {totals[1]} up fit on {' and '.join(it.name for it in fewer)}"


class _SmallestDelay:
    """One link at a time: it loses the traffic when its round trip is far above another's."""

    def __init__(self) -> None:
        self.current: str | None = None
        self.reason = ""
        self.strays = False  # from the preferred link
        self._since: float | None = None  # there has been a better one
        self._better: str | None = None
        self._moved = float("-inf")
        self._stay = 0.0

    def look(self, candidates: Sequence[_Candidate], now: float) -> None:
        names = [it.name for it in candidates]
        if self.current not in names:
            self._stay = 0.0
            self._move(names[0] if names else None, f"{names[0]} comes first" if names else "")
        if not names:
            return
        better, reason, patience = self._contender(candidates)
        if better != self._better or better is None:
            self._better, self._since = better, now
        elif self._since is not None and now - self._since >= patience and now - self._moved >= self._stay:
            soon = now - self._moved < _SOON * self._stay
            self._stay = min(2 * self._stay, _LONGEST_STAY) if soon else _STAY
            self._moved = now
            self._move(better, reason)
        self.strays = self.current != names[0]

    def _contender(self, candidates: Sequence[_Candidate]) -> tuple[str | None, str, float]:
        """A link that had better carry, why, and how long it must have been so."""
        trips = {it.name: it.capacity.rtt for it in candidates if it.capacity.rtt is not None}
        preferred, current = candidates[0].name, self.current
        nearest = min(trips, key=lambda name: trips[name], default=None)
        if preferred != current and not {preferred, current} <= trips.keys():
            return preferred, f"{preferred} comes first", _BACK_FOR
        if nearest is None or current not in trips:
            return None, "", 0.0
        far = trips[current] > max(trips[nearest] * _FAR, trips[nearest] + _FAR_BY)
        if far:
            return nearest, _compared(current, trips[current], nearest, trips[nearest]), _FAR_FOR
        if preferred != current and trips[preferred] <= trips[current]:
            return preferred, _compared(current, trips[current], preferred, trips[preferred]), _BACK_FOR
        return None, "", 0.0

    def _move(self, to: str | None, reason: str) -> None:
        self.current, self.reason = to, reason
        self._better, self._since = None, None


def _compared(one: str, its: float, other: str, others: float) -> str:
    return f"a round trip over {one} takes {its * 1000:.0f} ms, over {other} {others * 1000:.0f} ms"
