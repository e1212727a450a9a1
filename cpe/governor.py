# SPDX-License-Identifier: GPL-2.0-or-later
"""Which links make the whole slower, found out by doing without them. Pure: counters and the clock in, verdicts out.

One connection over several links is as fast as its bytes come together: what has arrived over one waits for what is
late on another, and as soon as all that may be under way waits, nothing moves (RFC 8684, section 3.3.4). So a link that
is throttled, bloated or lossy can cost more than it carries. None of its own figures tells, but a comparison does:

    suspicion   less arrives than one of the links has carried by itself, for a while
    trial       a link, the primary one last, becomes backup for two seconds, and what arrives is measured again; none
                that carries more than the others have ever carried, for them to make up for it
    verdict     more than before: it stays backup. Else it was needed; the next trial is later than this one was
    return      after a while, and ever later, a link that is backup is used again: if more arrives, it stays in use

Where the applications are the limit a trial finds no difference, and there the link may as well stay in use. Where
they come in bursts it may find any: perhaps they just wanted more, or less. What all wait for is never idle itself, so
if the link was, it is not sure that it was to blame; nor is it any more once the others have had room. When they are
full for a while after that, more is wanted than they carry, and the link is tried again at once.

What arrives is what the LAN gets and sends: on the links there is more, since what is late on one is sent again over
another. But where one link is left, what that carries of an upload is what counts: of what the LAN has sent, some waits
on this box, and when a subflow has gone nothing more is taken until that has become less.

A link that is demoted first loses its subflows, for a moment: that has the kernel send again what was under way there,
at once, whereas a backup would still have to deliver it, and everything waits for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

LOOK: Final = 0.2  # seconds between two looks that count
_GAP: Final = 1.0  # seconds without a look after which all begins anew

_WINDOW: Final = 2.0  # seconds that are compared
_PEAK: Final = 1.0  # seconds over which a link's best is taken
_FADES: Final = 600.0  # seconds after which half of a link's best is forgotten
_SEEN: Final = 0.9  # of a configured rate, until more or less is seen
_SUSPECT: Final = 0.95  # of what the best link has carried, of which 2 % is what Multipath TCP adds
_DOUBTED: Final = 1.0  # seconds of that before a trial: what is compared then is from after a sudden change
_BETTER: Final = 1.05  # times as much as before, which no noise is
_NEEDED: Final = 0.85  # of what it was before: a trial need not go on
_FULL: Final = 0.85  # of the best link in use: perhaps more is wanted than it carries
_FULL_FOR: Final = 4.0  # seconds after which that is no burst
_ROOM: Final = 0.5  # of it: less is wanted
_SURE_FOR: Final = 60.0  # seconds for which what is sure holds, whatever is wanted: each return costs some
_IDLE: Final = 0.25  # of what it carries in the mean: for that while it is not what all wait for
_QUIET: Final = 200e3  # bit/s: less is not worth a trial
_TAKES_PART: Final = 0.01  # of the whole

_GONE: Final = 0.5  # seconds that a link has no subflows when it is demoted
_LEAVES: Final = 0.75  # seconds that a link is given, at least, to deliver what it has
_LEFT: Final = 0.05  # of the whole: what a link that has delivered it carries
_PATIENCE: Final = 5.0  # seconds, at most
_STARTS: Final = 1.0  # seconds that a link which is used again is given to get going, at least
_STARTS_IN: Final = 24  # round trips: TCP doubles its rate in each, from 10 packets on, and loses some at the top

_FIRST_WAIT: Final = 4.0  # seconds: what was found better may just have met more to carry, so it is tried again soon
_LONGER: Final = 4.0  # times as long, each time
_LONGEST_WAIT: Final = 300.0
_PROVED: Final = 120.0  # seconds of use after which a link that was backup has no bad name any more
_COLLAPSE: Final = 0.7  # of what arrived when a link was found to be needed: that counts no more

Carried = tuple[int, int]  # bytes so far, down and up
Rates = tuple[float, float]  # bit/s, down and up

NO_TRIPS: Final[Mapping[str, float]] = MappingProxyType({})

TRIED: Final = "tried without it"


@dataclass(slots=True)
class _Link:
    best: list[float]  # bit/s, down and up, that it has carried, or is told to carry
    due: float = 0.0  # no trial before, and no return
    wait: float = _FIRST_WAIT
    since: float = 0.0  # in use
    whole: float = 0.0  # bit/s when it was last found to be needed
    unsure: bool = False  # whether it was this link that made what was found
    proved: float = float("-inf")  # when it was surely this link, last


@dataclass(slots=True)
class _Trial:
    link: str
    without: bool  # the link; else with it again
    way: int  # 0 is down, 1 is up: where more was carried
    before: Rates
    began: float
    sure: bool = True  # what is found is about the link: it was never idle while it was in use
    settled: float | None = None


class Governor:
    """``demoted`` are the links that had better be backup, each with the reason."""

    def __init__(self, configured: Mapping[str, tuple[float | None, float | None]], primary: str) -> None:
        """Rates (bit/s, down and up) as far as they are known beforehand, for all links there may be.

        ``primary`` is the one that is tried without last: its first subflows stay where they are.
        """
        self._primary = primary
        self.demoted: dict[str, str] = {}
        self._links = {name: _Link([_SEEN * (rate or 0.0) for rate in rates]) for name, rates in configured.items()}
        self._history: deque[tuple[float, Mapping[str, Carried], Carried]] = deque()
        self._left: dict[str, float] = {}  # links that were demoted, and when
        self._trial: _Trial | None = None
        self._changed = 0.0  # when what is in use changed last
        self._suspected: float | None = None  # since then
        self._full: float | None = None  # since then the links in use are, beside others that are demoted
        self._trips = NO_TRIPS

    @property
    def tries(self) -> bool:
        """Whether it is to be looked at again even if nothing is carried: a trial is to end."""
        return self._trial is not None

    def leaving(self, now: float) -> frozenset[str]:
        """Of those that are demoted, the ones that are to have no subflow at all for a moment."""
        return frozenset(name for name, when in self._left.items() if name in self.demoted and now - when < _GONE)

    def observe(
        self, carried: Mapping[str, Carried], lan: Carried, now: float, trips: Mapping[str, float] = NO_TRIPS
    ) -> bool:
        """What each link has carried so far, of all that are up, and the LAN; to be told at least every LOOK.

        ``trips`` are the shortest round trips of links, in seconds, as far as they are known.
        Says whether ``demoted`` is another than before.
        """
        before = dict(self.demoted)
        self._trips = trips
        if not self._history or now - self._history[-1][0] > _GAP or _anew(self._history[-1][1], carried):
            self._forget(carried, now)
        elif now - self._history[-1][0] < LOOK:
            return False
        self._history.append((now, carried, lan))
        while self._history[0][0] < now - _PATIENCE - _WINDOW:
            self._history.popleft()
        self._learn(now)
        if self._trial is not None:
            self._judge(self._trial, now)
        elif now - self._changed >= _WINDOW:
            self._consider(now)
        return self.demoted != before

    def _forget(self, carried: Mapping[str, Carried], now: float) -> None:
        """Other links, or nothing to look at for a while: what was found out before says nothing any more."""
        self._history.clear()
        self._trial = self._suspected = self._full = None
        self._changed = now
        still = {name: why for name, why in self.demoted.items() if name in carried and why != TRIED}
        self.demoted = still if len(still) < len(carried) else {}  # one has to carry
        for name in self.demoted:
            self._links[name].unsure = True

    def _learn(self, now: float) -> None:
        faded = 0.5 ** (LOOK / _FADES)
        for name, rates in self._rates(now - _PEAK).items():
            best = self._links[name].best
            best[:] = [max(faded * old, new) for old, new in zip(best, rates, strict=True)]

    def _rates(self, since: float) -> dict[str, Rates]:
        """bit/s of each link from then on, as far back as is known; nothing for less than two looks."""
        now, last, _ = self._history[-1]
        start, first, _ = self._first(since)
        return {name: _rate(first[name], it, now - start) for name, it in last.items()} if start < now else {}

    def _whole(self, since: float) -> Rates:
        """bit/s of what has arrived from then on."""
        now, _, last = self._history[-1]
        start, _, first = self._first(since)
        if start >= now:
            return 0.0, 0.0
        rates = self._rates(since)
        down, up = (sum(rate[way] for rate in rates.values()) for way in (0, 1))
        got, sent = _rate(first, last, now - start)
        return min(down, got), up if len(rates) - len(self.demoted) < 2 else min(up, sent)

    def _first(self, since: float) -> tuple[float, Mapping[str, Carried], Carried]:
        return next((it for it in self._history if it[0] >= since - LOOK / 2), self._history[-1])

    def _consider(self, now: float) -> None:
        rates = self._rates(now - _WINDOW)
        whole = self._whole(now - _WINDOW)
        way = 0 if whole[0] >= whole[1] else 1
        used = [name for name in rates if name not in self.demoted]
        bests = {name: self._links[name].best[way] for name in used}
        best = max(bests.values(), default=0.0)
        self._recall(whole[way], best, now)
        if whole[way] < _QUIET:
            self._suspected = None
            return
        back = [name for name in self.demoted if now >= self._links[name].due]
        if back:
            name = min(back, key=lambda name: self._links[name].due)
            del self.demoted[name]
            self._begin(_Trial(name, without=False, way=way, before=whole, began=now))
            return
        if not used:  # what arrives comes over no link of ours
            self._suspected = None
            return
        # a link that waits for another one may carry nothing for a while, and has its part in it all the same
        lately = self._rates(now - _PATIENCE - _WINDOW)
        takes_part = [name for name in used if lately[name][way] >= _TAKES_PART * max(whole[way], _QUIET)]
        if len(takes_part) < 2 or whole[way] >= _SUSPECT * best:
            self._suspected = None
            return
        self._suspected = self._suspected or now
        if now - self._suspected < max(_DOUBTED, *(self._starts(name) for name in takes_part)):
            return
        # without a link there is no more than what the others have ever carried
        pays = [name for name in takes_part if sum(bests.values()) - bests[name] >= _BETTER * whole[way]]
        due = [name for name in pays if self._may_try(self._links[name], whole[way], now)]
        if due:
            name = min(due, key=lambda name: (name == self._primary, rates[name][way]))
            self.demoted[name] = TRIED
            self._left[name] = now
            sure = self._is_busy(name, way, now - _WINDOW)
            self._begin(_Trial(name, without=True, way=way, before=whole, began=now, sure=sure))

    def _recall(self, whole: float, best: float, now: float) -> None:
        """Has links come back of which nothing is sure, once more is wanted than the others carry, and that lasts."""
        demoted = [self._links[name] for name in self.demoted]
        if whole < _FULL * best:
            self._full = None
            for link in demoted:
                link.unsure = link.unsure or whole < _ROOM * best
            return
        self._full = now if self._full is None else self._full
        if now - self._full >= _FULL_FOR:
            for link in demoted:
                if link.unsure and now - link.proved >= _SURE_FOR:
                    link.due = min(link.due, now)

    def _is_busy(self, name: str, way: int, since: float) -> bool:
        """Whether the link has carried something in each two looks since then."""
        carried = [links[name][way] for when, links, _ in self._history if when >= since - LOOK / 2]
        steps = [later - sooner for sooner, later in zip(carried, carried[2:], strict=False)]
        return bool(steps) and min(steps) > _IDLE * sum(steps) / len(steps)

    @staticmethod
    def _may_try(link: _Link, whole: float, now: float) -> bool:
        return now >= link.due or whole < _COLLAPSE * link.whole

    def _begin(self, trial: _Trial) -> None:
        self._trial, self._suspected, self._full = trial, None, None
        self._changed = trial.began

    def _judge(self, trial: _Trial, now: float) -> None:
        if trial.settled is None:
            if self._has_settled(trial, now):
                trial.settled = now
            return
        seconds = now - trial.settled
        whole = self._whole(trial.settled)
        if seconds < 2 * LOOK or (seconds < _WINDOW and whole[trial.way] >= _NEEDED * trial.before[trial.way]):
            return
        if trial.without:
            self._after_without(trial, whole, now)
        else:
            trial.sure = self._is_busy(trial.link, trial.way, min(trial.settled, now - _STARTS))
            self._after_with(trial, whole, now)
        self._trial = None
        self._changed = now

    def _has_settled(self, trial: _Trial, now: float) -> bool:
        if not trial.without:
            return now - trial.began >= self._starts(trial.link)
        if now - trial.began >= _PATIENCE:
            return True
        rates = self._rates(now - 2 * LOOK)
        left = rates[trial.link][trial.way] if rates else 0.0
        most = max((rate[trial.way] for rate in rates.values()), default=0.0)
        return now - trial.began >= _LEAVES and left <= _LEFT * max(trial.before[trial.way], most)

    def _starts(self, name: str) -> float:
        """Seconds until a connection that has begun to use the link carries there what it can."""
        return max(_STARTS, _STARTS_IN * self._trips.get(name, 0.0))

    def _after_without(self, trial: _Trial, whole: Rates, now: float) -> None:
        link = self._links[trial.link]
        if _is_better(whole, trial.before, trial.way):
            if now - link.since >= _PROVED:
                link.wait = _FIRST_WAIT
            self._demote(trial, trial.before[trial.way], whole[trial.way], now)
            return
        del self.demoted[trial.link]
        link.whole = trial.before[trial.way]
        link.due = now + link.wait
        link.wait = min(_LONGER * link.wait, _LONGEST_WAIT)

    def _after_with(self, trial: _Trial, whole: Rates, now: float) -> None:
        link = self._links[trial.link]
        if _is_better(whole, trial.before, trial.way):
            link.due, link.since = now + _FIRST_WAIT, now
            return
        self._left[trial.link] = now
        self._demote(trial, whole[trial.way], trial.before[trial.way], now)

    def _demote(self, trial: _Trial, with_it: float, without_it: float, now: float) -> None:
        link = self._links[trial.link]
        self.demoted[trial.link] = f"with it {_megabits(with_it)}, without it {_megabits(without_it)}"
        link.due, link.unsure = now + link.wait, not trial.sure
        link.proved = now if trial.sure else link.proved
        link.wait = min(_LONGER * link.wait, _LONGEST_WAIT)


def _anew(before: Mapping[str, Carried], now: Mapping[str, Carried]) -> bool:
    """Whether these are other links, or another device's counters."""
    return before.keys() != now.keys() or any(now[name] < sooner for name, sooner in before.items())


def _rate(before: Carried, after: Carried, seconds: float) -> Rates:
    return 8 * (after[0] - before[0]) / seconds, 8 * (after[1] - before[1]) / seconds


def _is_better(after: Rates, before: Rates, way: int) -> bool:
    """Not if the other direction, where that carries much, pays for it."""
    other = 1 - way
    pays = before[other] >= 0.25 * before[way] and after[other] < _NEEDED * before[other]
    return after[way] >= _BETTER * before[way] and not pays


def _megabits(rate: float) -> str:
    return f"{rate / 1e6:.0f} Mbit/s" if rate >= 9.95e6 else f"{rate / 1e6:.1f} Mbit/s"
