# SPDX-License-Identifier: GPL-2.0-or-later
"""Which links are alive of those that the kernel shows up. Pure: answers and counters in, probes and verdicts out.

A link can be lost and no device shows it. So the HAG is asked over each of them (ICMP echo): seldom as long as it
answers, and at once and several times where an answer is missing, or where packets came and suddenly none do. What
comes late is as good as what comes soon: a link is not dead as long as any answer arrives, or packets do in numbers.

A verdict takes a witness: another link over which the HAG has answered most of the probes that were sent since the
silence began (where it limits their rate, some links get no answers, and the others few). Without one it may be the
HAG that is gone, or its answers, and no link is to blame. So the last link is never found dead, one that the HAG has
never answered over neither, and without answers all is as if nobody asked.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_QUICK: Final = 0.02  # seconds between the probes of a link that has fallen silent
_LOOK: Final = 0.03  # seconds between looks at the counters of links that carry something
_CARRIES: Final = 0.5  # seconds that a link is looked at so often after the last packets
_SILENCE: Final = 0.08  # seconds without a packet after which a link that has carried something is asked
_NUMBERS: Final = 20.0  # packets a second that show life; fewer may be the modem's own (ARP, multicast)
_PATIENCE: Final = 0.1  # seconds that an answer may take, at least
_ATTENTION: Final = 2.0  # seconds from a silence on in which a witness is looked for all the time
_KEPT: Final = 5.0  # seconds after which a probe without an answer is lost
_OLD: Final = 3  # probes more that are due then, without any answer, after which no round trip is known
_WITNESS: Final = 3  # answers for each probe without one, over a link that is a witness
_BACK: Final = 3  # answers that bring a dead link back
_DEAF: Final = 40  # probes over a link without any answer after which they become rare
_LATEST: Final = 32  # answered probes that are remembered
_RARE: Final = 20  # times the interval, then
_SIX: Final = 1.6  # times the interval for IPv6, whose probes are that much longer

NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Aim:
    """Who is asked over a link: from its device and address to an address of the HAG."""

    device: int
    source: str
    target: str

    @property
    def family(self) -> int:
        return family_of(self.target)


@dataclass(frozen=True, slots=True)
class Probe:
    """An order: an echo request over the link."""

    link: str
    sequence: int


@dataclass(slots=True)
class _Line:
    """What is known of one link. Times are the loop's, in seconds."""

    aim: Aim
    heard: float  # the last sign of life
    next: float  # when it is asked again
    waiting: dict[int, float] = field(default_factory=dict)  # probes without an answer yet, and when they were sent
    sequence: int = 0
    probes: int = 0
    lost: int = 0
    proven: bool = False  # the HAG has answered over it
    answered: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))  # when such probes were sent
    latest: float = NEVER  # when the last one of them was sent, or from when on the link is judged
    rtt: float | None = None
    smoothed: float = 0.0
    varies: float = 0.0
    least: float = float("inf")
    packets: int | None = None  # that have come, when it was looked at last
    looked: float = 0.0
    answers: int = 0  # since then
    carried: float = NEVER  # when packets came in numbers
    suspect: float | None = None  # since when it is asked for its silence
    dead: str | None = None  # why
    died: float = NEVER  # when
    back: int = 0  # answers since then
    mistaken: bool = False  # it was not: what was asked before has been answered after

    def begin(self, now: float) -> None:
        """From here on it is judged, and alive until shown otherwise."""
        self.heard = self.next = self.latest = now
        self.waiting.clear()
        self.answered.clear()
        self.packets = self.suspect = self.dead = None
        self.mistaken = False
        self.carried = NEVER

    def count(self, packets: int | None, now: float) -> None:
        """The device has had so many packets, answers to us among them."""
        if packets is not None and self.packets is not None:
            came = packets - self.packets - self.answers
            if came > _NUMBERS * (now - self.looked):
                self.heard = self.carried = now
        self.packets, self.looked, self.answers = packets, now, 0

    def send(self, now: float) -> int:
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.probes += 1
        self.waiting[self.sequence] = now
        return self.sequence

    def answer(self, sequence: int, when: float) -> None:
        self.answers += 1
        sent = self.waiting.pop(sequence, None)
        if sent is None:
            return
        self.proven = True
        self.heard = max(self.heard, when, sent)
        self.answered.append(sent)
        self.latest = max(self.latest, sent)
        rtt = when - sent
        if rtt < 0.0:  # the clock has been set meanwhile
            rtt = self.smoothed
        else:
            self._learn(rtt)
        if self.dead is not None:
            self.back += 1
            if sent < self.died:  # it was slow and not dead, and is given as much time from now on
                self.least, self.back, self.mistaken = rtt, _BACK, True

    def _learn(self, rtt: float) -> None:
        """As RFC 6298, section 2, twice as fast."""
        if self.rtt is None:
            self.smoothed, self.varies = rtt, rtt / 2
        else:
            self.varies += (abs(rtt - self.smoothed) - self.varies) / 4
            self.smoothed += (rtt - self.smoothed) / 4
        self.rtt = rtt
        self.least = min(self.least, rtt)

    def forget(self, now: float) -> None:
        """Probes for which no answer is expected any more."""
        for sequence in [it for it, sent in self.waiting.items() if now - sent > _KEPT]:
            del self.waiting[sequence]
            self.lost += 1

    def is_silent(self, now: float) -> bool:
        """Whether an answer is overdue and nothing else has come, or packets have ceased to come."""
        if self.carried >= self.heard:
            return now - self.carried >= _SILENCE
        patience = max(_PATIENCE, self.smoothed + 4 * self.varies)
        return any(sent >= self.heard and now - sent >= patience for sent in self.waiting.values())

    def asked(self) -> list[float]:
        """When it was, for its silence."""
        since = self.suspect
        return [] if since is None else [sent for sent in self.waiting.values() if sent >= since]

    def overdue(self, count: int, now: float) -> list[float]:
        """When the probes were sent that have no answer though it is time; nothing if fewer than ``count`` have none.

        Packets that have ceased to come have left no queue behind, so the shortest round trip counts then, and how
        much they vary.
        """
        asked = self.asked()
        patience = last = max(_PATIENCE, self.smoothed + 4 * self.varies)
        if self.carried >= self.heard:
            patience = max(_PATIENCE, 2 * self.least + 0.02, self.least + 4 * self.varies)
            last = max(_PATIENCE / 2, 1.25 * self.least)
        if len(asked) < count or now - asked[0] < patience or now - asked[count - 1] < last:
            return []
        return [sent for sent in asked if now - sent >= last]

    def is_witness(self, since: float, until: float) -> bool:
        """Whether most of the probes from then until then have been answered."""
        answered = sum(since <= sent <= until for sent in self.answered)
        missing = sum(since <= sent <= until for sent in self.waiting.values())
        return answered >= max(1, _WITNESS * missing)

    def die(self, now: float) -> None:
        self.dead, self.died, self.back = f"no answer from the HAG for {1000 * (now - self.heard):.0f} ms", now, 0
        self.mistaken = False


class Health:
    """The links by name. ``interval`` is in seconds; ``count`` probes in a row tell a silent link from a dead one."""

    def __init__(self, interval: float, count: int) -> None:
        self.interval = interval
        self.count = count
        self._lines: dict[str, _Line] = {}  # that are asked now
        self._known: dict[str, _Line] = {}  # that ever were

    def aim(self, aims: Mapping[str, Aim], now: float) -> None:
        """These are asked from now on, and no others."""
        lines = {}
        for name, aim in aims.items():
            line = self._known.get(name)
            if line is None or line.aim != aim:
                line = _Line(aim, now, now)
            elif name not in self._lines:
                line.begin(now)
            lines[name] = self._known[name] = line
        self._lines = lines
        self._absolve(now)

    def keep(self, names: Iterable[str], now: float) -> None:
        """Of those that are asked, no others are from now on: the kernel shows them down."""
        kept = set(names)
        self._lines = {name: line for name, line in self._lines.items() if name in kept}
        self._absolve(now)

    def _absolve(self, now: float) -> None:
        """Where all links that are left were found dead, none of them is: it is those or nothing."""
        if all(line.dead for line in self._lines.values()):
            for line in self._lines.values():
                line.begin(now)

    def answered(self, link: str, sequence: int, when: float) -> None:
        """The answer to a probe, which came at that time."""
        if link in self._lines:
            self._lines[link].answer(sequence, when)

    def act(self, now: float, packets: Mapping[str, int]) -> list[Probe]:
        """Probes to be sent now. ``packets`` are those that each link's device has received so far."""
        lines = self._lines
        for name, line in lines.items():
            line.forget(now)
            line.count(packets.get(name), now)
        for line in lines.values():
            self._judge(line, now)
        asking = any(self._is_asked(line) for line in lines.values())
        probes = []
        for name, line in lines.items():
            if now >= line.next or (asking and line.proven and line.dead is None):
                probes.append(Probe(name, line.send(now)))
                line.next = now + self._pause(line)
        return probes

    def due(self, now: float) -> float | None:
        """When act() is to be called again; None if there is nothing to ask."""
        lines = self._lines.values()
        times = [line.next for line in lines]
        if any(self._is_asked(line) for line in lines):
            times.append(now + _QUICK)
        elif any(_is_watched(line, now) for line in lines):
            times.append(now + _LOOK)
        return min(times, default=None)

    def dead(self, link: str) -> str | None:
        """Why the link cannot be used, though the kernel shows it up; None if it can."""
        return self._lines[link].dead if link in self._lines else None

    def was_mistaken(self, link: str) -> bool:
        """Whether the link was found dead the last time, and only slow."""
        return link in self._lines and self._lines[link].mistaken

    @property
    def verdicts(self) -> dict[str, str]:
        """Why, of those that are dead."""
        return {name: line.dead for name, line in self._lines.items() if line.dead is not None}

    def unanswered(self, now: float) -> bool:
        """Whether the HAG seems not to answer echo requests at all, or not any more."""
        lines = self._lines.values()
        return bool(lines) and all(self._is_old(line, now) if line.proven else line.probes >= _DEAF for line in lines)

    def rtt(self, link: str, now: float) -> float | None:
        """Seconds, smoothed; None while nothing is known of it, or of late."""
        line = self._known.get(link)
        return None if line is None or line.rtt is None or self._is_old(line, now) else line.smoothed

    def describe(self, link: str) -> dict[str, Any]:
        """For people and programs that look in; round trips in milliseconds."""
        line, now = self._known.get(link), self._lines.get(link)
        measured = line is not None and line.rtt is not None
        return {
            "target": now.aim.target if now else None,
            "answers": now.proven if now else None,
            "sent": line.probes if line else 0,
            "lost": line.lost if line else 0,
            "rtt_ms": round(1000 * line.rtt, 1) if line and line.rtt is not None else None,
            "smoothed_rtt_ms": round(1000 * line.smoothed, 1) if line and measured else None,
        }

    def _judge(self, line: _Line, now: float) -> None:
        if line.dead is not None:
            if line.back >= _BACK:
                line.dead = line.suspect = None
            elif now - line.heard > 2.5 * self._pause(line):
                line.back = 0
            return
        if not line.proven:
            return
        if line.suspect is not None and line.heard > line.suspect:
            line.suspect = None
        if line.suspect is None and line.is_silent(now):
            line.suspect = now
        if line.suspect is not None and self._has_witness(line, line.suspect, line.overdue(self.count, now)):
            line.die(now)

    def _has_witness(self, line: _Line, since: float, overdue: list[float]) -> bool:
        """Whether the HAG has answered over another link what was sent meanwhile, and over this one nothing."""
        others = [it for it in self._lines.values() if it.dead is None and it is not line]
        return bool(overdue) and any(it.is_witness(since, overdue[-1]) for it in others)

    def _is_asked(self, line: _Line) -> bool:
        return line.dead is None and line.suspect is not None and len(line.asked()) < self.count

    def _is_old(self, line: _Line, now: float) -> bool:
        """Whether nothing has been answered for so long that what was says nothing any more."""
        return now - line.latest > _KEPT + _OLD * self._pause(line)

    def _pause(self, line: _Line) -> float:
        pause = self.interval * (_SIX if line.aim.family == socket.AF_INET6 else 1)
        return pause if line.proven or line.probes < _DEAF else pause * _RARE


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _is_watched(line: _Line, now: float) -> bool:
    if line.dead is not None or not line.proven:
        return False
    return now - line.carried < _CARRIES or (line.suspect is not None and now - line.suspect < _ATTENTION)
