# SPDX-License-Identifier: GPL-2.0-or-later
"""Where SYNs with MP_CAPABLE vanish: what was learnt of it, and until when it holds. Pure: answers in, advice out.

Some boxes on the way drop what has an option that they do not know. The kernel leaves MP_CAPABLE out of a later copy of
its SYN (net.mptcp.syn_retrans_before_tcp_fallback, some three seconds), and where it does not, we try again without it
(common/flow.py, LOST). So the connection comes about, late. Who has waited once need not wait again: connections to
that destination pass unbonded for a while. When the while is over one connection tries, and the others go on passing
until it is known what became of that: an answer to a SYN with the option clears the mark, another loss doubles its
time.

One destination says nothing of the others. Several in a row, and none in between that was answered, are a sign that
the way to all of them is at fault, which is the access or the HAG. But a host of the LAN can have such destinations of
its own making. So that mark is for the host alone whose connections were lost: what one does never ends bonding for
another. Any answer to a SYN with the option, whoever asked, shows that the way is open and clears it for all; the
address families have ways of their own. Only connections that their client has completed count, so that a forged
source address teaches nothing.

A way that lets the handshake pass and takes the option out of what follows (common/proof.py) is worse than one that
takes it out of all: what it does must be noticed. It is avoided after the first connection that shows it, by the
host whose connection it was, since a server that speaks Multipath TCP itself could feign it where there is no HAG.

All tables are bounded. No host fills the first: one that has its share of it forgets its own oldest mark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from common.mptcp import Answer

FIRST: Final = 600.0  # seconds that a mark lasts
LONGEST: Final = 7200.0
TRIAL: Final = 10.0  # seconds until another connection may try: more than the kernel's own fallback takes
APART: Final = 1.0  # seconds, at least, between the kernel's copies of a SYN (RFC 6298)
IN_A_ROW: Final = 3  # destinations
DESTINATIONS: Final = 1024
SHARE: Final = DESTINATIONS // 4  # of one host
HOSTS: Final = 256  # of each address family

DESTINATION: Final = "SYNs with MP_CAPABLE get lost on the way to this destination"
EVERYWHERE: Final = "SYNs with MP_CAPABLE get lost on the way to every destination"
LOST: Final = "SYNs with MP_CAPABLE got no answer, one without did"
STRIPPED: Final = "the path takes Multipath TCP's option out of data"
LATE: Final = "the answer took so long that the kernel had given Multipath TCP up"
REFUSED: Final = "the other end or the path takes no Multipath TCP"


@dataclass(slots=True)
class _Mark:
    """``since`` when it was last set, ``until`` when it is avoided, ``lasts`` in seconds; ``host`` has found out."""

    host: str
    since: float
    until: float
    lasts: float = FIRST


@dataclass(slots=True)
class _Host:
    lost: set[str] = field(default_factory=set)  # destinations, none answered in between
    mark: _Mark | None = None


News = list[Any]  # what one worker has found out, in what JSON has


class Blackholes:
    """What has been learnt. Addresses are text, times seconds of one clock.

    Each worker has its own, and hears of what the others' find out.
    """

    def __init__(self, syns: int) -> None:
        """``syns`` is how many times the kernel sends a SYN with the option before it leaves it out."""
        self._syns = syns
        self._tell: Callable[[News], None] = lambda news: None
        self._destinations: dict[str, _Mark] = {}
        self._taught: Counter[str] = Counter()  # marks by host
        self._stripped: dict[str, _Mark] = {}  # by host
        self._hosts: dict[bool, dict[str, _Host]] = {False: {}, True: {}}  # by whether IPv6

    def share(self, tell: Callable[[News], None]) -> None:
        """``tell`` gets whatever changes what is known here, for the others' hear()."""
        self._tell = tell

    def hear(self, news: News) -> None:
        """What another one has found out, in its words."""
        match news:
            case ["tries", str(host), str(destination), float(now)]:
                self._wait_for_trial(self._marks(host, destination), now)
            case ["answered", str(host), str(destination)]:
                self._answered(host, destination)
            case ["lost", str(host), str(destination), float(began), float(now)]:
                self._lost(host, destination, began, now)
            case ["proved", str(host), bool(carried), float(began), float(now)]:
                self._proved(host, carried, began, now)

    def avoid(self, host: str, destination: str, now: float) -> str | None:
        """Why a new connection had better pass unbonded. None: it is to try, and others wait for what it finds out."""
        marks = self._marks(host, destination)
        for mark, why in marks:
            if now < mark.until:
                return why
        if marks:
            self._wait_for_trial(marks, now)
            self._tell(["tries", host, destination, now])
        return None

    def learn(self, host: str, destination: str, answer: Answer | None, began: float, now: float) -> str | None:
        """A connection is open, as Multipath TCP (None) or after this answer; says why it is not bonded.

        As the kernel does (mptcp_active_detect_blackhole(), net/mptcp/ctrl.c), only an answer to the first SYN without
        the option is taken as a proof: one to a later SYN shows that there are other reasons for silence. And one to an
        earlier SYN, or late, comes from a slow server; the HAG held the SYN, option and all, as long as that took.
        """
        if answer is None:
            self._note_answer(host, destination)
            return None
        plain = answer.copies - (0 if answer.anew else self._syns)  # SYNs without the option, but for the first of them
        if plain >= 0 and answer.after < APART:
            if plain == 0:
                self._note_loss(host, destination, began, now)
            return LOST
        self._note_answer(host, destination)
        return REFUSED if plain < 0 else LATE

    def proved(self, host: str, _destination: str, carried: bool, began: float, now: float) -> None:
        """A connection that began as Multipath TCP goes on as such, or has lost the option on its way."""
        if self._proved(host, carried, began, now):
            self._tell(["proved", host, carried, began, now])

    def _proved(self, host: str, carried: bool, began: float, now: float) -> bool:
        """Whether that is news."""
        if carried:
            return self._stripped.pop(host, None) is not None
        mark = self._stripped.get(host)
        if mark is not None:
            _renew(mark, began, now)
        else:
            if len(self._stripped) >= HOSTS:
                del self._stripped[next(iter(self._stripped))]
            self._stripped[host] = _Mark(host, now, now + FIRST)
        return True

    def describe(self, now: float) -> list[dict[str, Any]]:
        """What is avoided now, for people and programs: 'destination', or 'host' for all of its, and 'seconds' left."""
        marks = [("destination", destination, mark) for destination, mark in self._destinations.items()]
        marks += [("host", mark.host, mark) for mark in self._ways()]
        return [
            {what: address, "seconds": round(mark.until - now)} for what, address, mark in marks if now < mark.until
        ]

    def _ways(self) -> Iterator[_Mark]:
        yield from self._stripped.values()
        for hosts in self._hosts.values():
            for host in hosts.values():
                if host.mark is not None:
                    yield host.mark

    def _marks(self, host: str, destination: str) -> list[tuple[_Mark, str]]:
        """Those that stand against a connection, each with its reason."""
        known = self._hosts[":" in host].get(host)
        marks = (
            (self._destinations.get(destination), DESTINATION),
            (known.mark if known else None, EVERYWHERE),
            (self._stripped.get(host), STRIPPED),
        )
        return [(mark, why) for mark, why in marks if mark is not None]

    @staticmethod
    def _wait_for_trial(marks: list[tuple[_Mark, str]], now: float) -> None:
        for mark, _ in marks:
            mark.until = now + TRIAL

    def _note_loss(self, host: str, destination: str, began: float, now: float) -> None:
        self._lost(host, destination, began, now)
        self._tell(["lost", host, destination, began, now])

    def _note_answer(self, host: str, destination: str) -> None:
        if self._answered(host, destination):
            self._tell(["answered", host, destination])

    def _answered(self, host: str, destination: str) -> bool:
        """Whether that is news."""
        hosts = self._hosts[":" in host]
        if not hosts and destination not in self._destinations:
            return False
        self._forget(destination)
        hosts.clear()
        return True

    def _lost(self, host: str, destination: str, began: float, now: float) -> None:
        mark = self._destinations.get(destination)
        if mark is None:
            self._make_room(host)
            self._destinations[destination] = _Mark(host, now, now + FIRST)
            self._taught[host] += 1
        else:
            _renew(mark, began, now)
        self._lost_way(host, destination, began, now)

    def _lost_way(self, host: str, destination: str, began: float, now: float) -> None:
        hosts = self._hosts[":" in host]
        known = hosts.get(host)
        if known is None:
            if len(hosts) >= HOSTS:
                del hosts[next(iter(hosts))]
            known = hosts[host] = _Host()
        if known.mark is not None:
            _renew(known.mark, began, now)
            return
        known.lost.add(destination)
        if len(known.lost) >= IN_A_ROW:
            known.mark = _Mark(host, now, now + FIRST)

    def _make_room(self, host: str) -> None:
        """The first of a dictionary is its oldest."""
        if self._taught[host] >= SHARE:
            self._forget(next(it for it, mark in self._destinations.items() if mark.host == host))
        elif len(self._destinations) >= DESTINATIONS:
            self._forget(next(iter(self._destinations)))

    def _forget(self, destination: str) -> None:
        mark = self._destinations.pop(destination, None)
        if mark is not None:
            self._taught[mark.host] -= 1
            if not self._taught[mark.host]:
                del self._taught[mark.host]


def _renew(mark: _Mark, began: float, now: float) -> None:
    """Lost again. What began before the mark was set is the same finding once more."""
    if began >= mark.since:
        mark.lasts = min(2 * mark.lasts, LONGEST)
        mark.since, mark.until = now, now + mark.lasts
