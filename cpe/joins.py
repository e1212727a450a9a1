# SPDX-License-Identifier: GPL-2.0-or-later
"""Which connection gets a subflow over which link, and when. Pure: path events and links in, orders out.

A connection is joined when three things are known of it, in whatever order they come: it is established for the path
manager; it has grown past the join threshold, so it is one of ours and worth a subflow, or it has lost the link that it
was on; and there is an address to join at, given by the configuration or, without that, announced by its HAG. There is
one subflow for each link, that of the primary link being there from the beginning; one that fails is tried again, each
time after twice the wait, for as long as the connection lives. One that has had no subflow at all for a while is left
to the kernel, which ends it (net.mptcp.close_timeout) unless somebody keeps trying.

Which link a connection is to use, and how, is a plan's to say (cpe/steering.py); without one all carry. A plan that
changes is carried out a few connections at a time, since there may be thousands.

A subflow whose link is down is closed as soon as the connection has another one, and the HAG is told that its address
is gone (RM_ADDR, RFC 8684 section 3.4.2): whoever has sent into it sends that again over the others, at once.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from common.path_events import (
    Announced,
    Closed,
    Created,
    Endpoint,
    Established,
    JoinFailed,
    PathEvent,
    SubflowClosed,
    SubflowEstablished,
    ends,
)
from cpe.steering import DEFAULT, Lane, Use

_FIRST_WAIT: Final = 1.0  # seconds
_LONGEST_WAIT: Final = 30.0
_HOPE: Final = 30.0  # seconds without any subflow after which no more are ordered
_HEARD: Final = 256  # announcements that connections share
_ANNOUNCED: Final = 8  # addresses for one connection, which may have so many further subflows
_VOTES: Final = 16  # that an announced address can be ahead of others
_GONE: Final = 3  # refusals in a row by which the kernel says that there is no such connection
_FIRST: Final = 0  # address id of a connection's first subflow
_AT_ONCE: Final = 100  # connections whose plan is carried out in one go
_AGAIN: Final = (1.0, 3.0, 9.0)  # seconds until a priority is told again, each: it goes in one ACK, never confirmed


@dataclass(frozen=True, slots=True)
class Join:
    """An order for the path manager: a subflow, perhaps one that carries only if no others do."""

    token: int
    local: Endpoint
    remote: Endpoint
    backup: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """An order for the path manager: no more of this subflow, nor of its address."""

    token: int
    local: Endpoint
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class Prioritize:
    """An order for the path manager: from now on this subflow is a backup, in both directions, or it is none."""

    token: int
    local: Endpoint
    remote: Endpoint
    backup: bool


Order = Join | Leave | Prioritize
Plans = Mapping[Lane, Mapping[str, Use]]  # what each link, by its name, is to the connections of a lane


@dataclass(frozen=True, slots=True)
class Link:
    """A link that is up. ``id`` is its MPTCP address id, other than 0, which is that of first subflows."""

    name: str
    id: int
    device: int
    addresses: dict[int, str]  # family -> address
    primary: bool = False  # first subflows are on it


@dataclass(slots=True)
class _Subflow:
    ends: tuple[Endpoint, Endpoint] | None = None  # while it is up
    asked: tuple[Endpoint, Endpoint] | None = None  # last; the kernel keeps the id for that address until it is left
    wait: float = _FIRST_WAIT
    backup: bool | None = False  # None: ordered as one, but not every kernel takes that flag
    told: Prioritize | None = None  # last
    refusals: int = 0


@dataclass(slots=True)
class _Known:
    family: int | None = None  # None until established
    grown: bool = False
    lane: Lane = (DEFAULT, "")
    announced: tuple[Endpoint, ...] = ()
    first: bytes = b""  # what was told of the first subflow, once established: read only where it is wanted
    first_lost: bool = False  # its address is not the primary link's any more
    first_up: bool = True
    first_told: Prioritize | None = None  # last; as long as nothing was it is no backup
    subflows: dict[int, _Subflow] = field(default_factory=dict)  # the others, by link id
    dead_since: float | None = None  # when the last subflow went down

    @property
    def first_backup(self) -> bool:
        return self.first_told is not None and self.first_told.backup


@dataclass(slots=True)
class _Favourite:
    """The address that most vote for, in the long run (Boyer and Moore's majority vote): anybody may announce one."""

    address: str
    votes: int = 0

    def vote(self, address: str) -> None:
        if address == self.address:
            self.votes = min(self.votes + 1, _VOTES)
        elif self.votes:
            self.votes -= 1
        else:
            self.address, self.votes = address, 1


class Joins:
    """All connections of the CPE that the path manager or a worker has told of."""

    def __init__(self, configured: Iterable[Endpoint] = ()) -> None:
        """``configured`` are addresses of the HAG, which then take the place of announced ones.

        Before the first use() there is no link.
        """
        self._links: dict[int, Link] = {}
        self._primary: Link | None = None
        self._names: dict[int, str] = {}
        self.configured = tuple(configured)
        self._known: dict[int, _Known] = {}
        self._retries: dict[tuple[int, int], float] = {}  # (token, link id) -> when
        self._heard: dict[tuple[Endpoint, ...], tuple[Endpoint, ...]] = {}
        self._favourites: dict[int, _Favourite] = {}  # by family
        self._plans: Plans = {}
        self._default: Mapping[str, Use] = {}  # of connections without a lane, or of a policy that is no more
        self._lanes: dict[Lane, Lane] = {}
        self._unsettled: deque[int] = deque()  # whose plan may have changed
        self._unsettled_since = 0.0
        # to be told again, in the order of time: the first time, the second and so on
        self._repeats: list[deque[tuple[float, Prioritize]]] = [deque() for _ in _AGAIN]
        self.grown_now = 0  # connections

    def links_of(self, token: int) -> tuple[str, ...]:
        """Names of the links that carry a subflow of this connection now, besides the first subflow."""
        known = self._known.get(token)
        if known is None:
            return ()
        return tuple(self._names[id] for id, subflow in known.subflows.items() if subflow.ends)

    def backups_of(self, token: int) -> list[str]:
        """Names of the links whose subflow of this connection is a backup."""
        known = self._known.get(token)
        if known is None:
            return []
        first = [self._primary.name] if self._primary and known.first_up and known.first_backup else []
        return first + [self._names[id] for id, subflow in known.subflows.items() if subflow.ends and subflow.backup]

    def name(self, link: int) -> str:
        """Of a link that is or was up, by its id."""
        return self._names.get(link, "")

    def gateways(self) -> tuple[str, ...]:
        """Where the HAG is: the configuration's addresses or, without any, those that most connections hear of."""
        if self.configured:
            return tuple(endpoint.address for endpoint in self.configured)
        return tuple(favourite.address for favourite in self._favourites.values())

    def lost_first(self, token: int) -> bool:
        """Whether the connection goes on without its first subflow."""
        known = self._known.get(token)
        return known is not None and not known.first_up

    def use(self, links: Iterable[Link]) -> list[Order]:
        """These are the links that are up now."""
        before, self._links = self._primary, {link.id: link for link in links}
        self._primary = next((link for link in self._links.values() if link.primary), None)
        self._names |= {id: link.name for id, link in self._links.items()}
        renumbered = self._primary if before is None or self._primary != before else None
        orders: list[Order] = []
        for token, known in self._known.items():
            # over IPv6 it has the client's address
            if renumbered is not None and known.family == socket.AF_INET:
                known.first_lost = not self._has(renumbered, ends(known.first)[0])
            orders += self._leave_dead(token, known)
            orders += self._orders(token, known)
        return orders

    def grown(self, token: int, lane: Lane, now: float) -> list[Order]:
        """A worker says that this connection is worth more subflows; it may be over by now."""
        known = self._known.get(token)
        if known is None:
            return []
        self.grown_now += not known.grown
        known.grown = True
        known.lane = self._lanes.setdefault(lane, lane)
        return self._orders(token, known) + self._priorities(token, known, now)

    def steer(self, plans: Plans, now: float) -> None:
        """These are the plans from now on; retry() has what they ask for."""
        self._plans = plans
        self._default = next((plan for (policy, _), plan in plans.items() if policy == DEFAULT), {})
        self._unsettled_since = now
        self._unsettled = deque(token for token, known in self._known.items() if known.grown or known.subflows)

    def handle(self, event: PathEvent, now: float) -> list[Order]:
        """What the event asks for."""
        match event:
            case Created(token):
                self._remember(token)
            case Closed(token):
                self._forget(token)
            case Established(token, family, told) if token in self._known:
                known = self._known[token]
                known.family = family
                known.first = told
                return self._orders(token, known)
            case Announced(token, remote) if token in self._known:
                return self._hear_of(token, self._known[token], remote)
            case SubflowEstablished(token, local, remote) if self._is_ours(token, local.id):
                known = self._known[token]
                self._is_up(token, local, remote)
                # not every kernel takes the flag of an order to join: so that it is to be a backup is told besides
                return self._leave_dead(token, known) + self._priorities(token, known, now)
            case SubflowClosed(token, local) if token in self._known and local.id == _FIRST:
                known = self._known[token]
                known.first_up = False
                self._note_death(token, now)
                return self._orders(token, known)
            case SubflowClosed(token, local) if self._is_ours(token, local.id):
                ends = self._known[token].subflows[local.id].ends
                if ends is None or ends[0].port == local.port:  # and not one before
                    self._try_later(token, local.id, now)
            case JoinFailed(token, id, error) if self._is_ours(token, id):
                if self._is_gone(token, id, error):
                    self._forget(token)
                else:
                    self._try_later(token, id, now)
        return []

    def reconcile(self, found: Mapping[int, Iterable[tuple[Endpoint, Endpoint]]], now: float) -> list[Order]:
        """News was lost: these are the connections that there are, with the ends of their subflows."""
        orders: list[Order] = []
        for token, known in list(self._known.items()):
            if token not in found:
                self._forget(token)
                continue
            there = {local.id: (local, remote) for local, remote in found[token]}
            if known.family is not None and _FIRST not in there:
                known.first_up = False
            for id, subflow in list(known.subflows.items()):
                if id not in there:
                    if (token, id) not in self._retries:
                        self._try_later(token, id, now)
                elif subflow.ends is None or subflow.ends[0].port != there[id][0].port:
                    self._is_up(token, *there[id])
            self._note_death(token, now)
            orders += self._leave_dead(token, known)
            orders += self._orders(token, known)
            orders += self._priorities(token, known, now)
        return orders

    def next_retry(self) -> float | None:
        """When retry() has something to do."""
        waits = min(self._retries.values(), default=None)
        unsettled = self._unsettled_since if self._unsettled else None
        repeats = (waiting[0][0] for waiting in self._repeats if waiting)
        return min((when for when in (waits, unsettled, *repeats) if when is not None), default=None)

    def retry(self, now: float) -> list[Order]:
        """Orders for subflows whose wait is over, and for some of those whose plan has changed."""
        orders: list[Order] = []
        for _ in range(min(_AT_ONCE, len(self._unsettled))):
            token = self._unsettled.popleft()
            if (changed := self._known.get(token)) is not None:
                orders += self._leave_unwanted(token, changed)
                orders += self._orders(token, changed)
                orders += self._priorities(token, changed, now)
        orders += self._told_again(now)
        for (token, link), when in list(self._retries.items()):
            if when <= now:
                del self._retries[token, link]
                known = self._known[token]
                if link not in self._links or self._use(known, self._links[link]) is Use.NONE:
                    orders += self._leave(token, known, link)  # ordered anew when it is up, and wanted, again
                elif known.dead_since is None or now - known.dead_since < _HOPE:
                    orders += self._order(token, known, self._links[link])
        return orders

    def _hear_of(self, token: int, known: _Known, remote: Endpoint) -> list[Order]:
        """Whoever is at the other end may announce what he likes, and often: he has one vote, and some room."""
        others = tuple(old for old in known.announced if old.id != remote.id)
        if len(others) >= _ANNOUNCED:
            return []
        if all(old.family != remote.family for old in known.announced):
            self._favourites.setdefault(remote.family, _Favourite(remote.address)).vote(remote.address)
        known.announced = self._same((*others, remote))
        return self._orders(token, known)

    def _same(self, announced: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """The very one that other connections have: most hear the same of the same HAG, and there may be thousands."""
        if len(self._heard) >= _HEARD:  # strangers may announce what they like
            self._heard.clear()
        return self._heard.setdefault(announced, announced)

    def _orders(self, token: int, known: _Known) -> list[Order]:
        if known.family is None or not (known.grown or self._stranded(known)):
            return []
        orders: list[Order] = []
        for link in self._links.values():
            wanted = self._use(known, link) is not Use.NONE
            if wanted and link.id not in known.subflows and not (link.primary and known.first_up):
                orders += self._order(token, known, link)
        return orders

    def _use(self, known: _Known, link: Link) -> Use:
        return self._plans.get(known.lane, self._default).get(link.name, Use.CARRY)

    def _priorities(self, token: int, known: _Known, now: float) -> list[Order]:
        """Of subflows that are there, as the plan has them."""
        if known.family is None:
            return []
        orders = []
        if self._primary is not None and known.first_up:
            backup = self._use(known, self._primary) is not Use.CARRY
            if backup != known.first_backup:
                known.first_told = Prioritize(token, *ends(known.first), backup)
                orders.append(known.first_told)
        for id, subflow in known.subflows.items():
            if id in self._links and subflow.ends is not None:
                backup = self._use(known, self._links[id]) is not Use.CARRY
                if backup != subflow.backup:
                    subflow.backup = backup
                    subflow.told = Prioritize(token, *subflow.ends, backup)
                    orders.append(subflow.told)
        self._repeats[0].extend((now + _AGAIN[0], order) for order in orders)
        return list(orders)

    def _told_again(self, now: float) -> list[Prioritize]:
        """Some of those whose time has come."""
        orders = []
        for place, waiting in enumerate(self._repeats):
            for _ in range(min(_AT_ONCE, len(waiting))):
                if waiting[0][0] > now:
                    break
                _, order = waiting.popleft()
                if not self._holds(order):
                    continue
                orders.append(order)
                if place + 1 < len(_AGAIN):
                    self._repeats[place + 1].append((now + _AGAIN[place + 1], order))
        return orders

    def _holds(self, order: Prioritize) -> bool:
        """Whether it is what was last ordered of a subflow that is still there."""
        known = self._known.get(order.token)
        if known is None:
            return False
        if order.local.id == _FIRST:
            return known.first_up and known.first_told is order
        subflow = known.subflows.get(order.local.id)
        return subflow is not None and subflow.ends == (order.local, order.remote) and subflow.told is order

    def _leave_unwanted(self, token: int, known: _Known) -> list[Order]:
        """Closes what is on links that are to have no subflows; a first subflow stays, as a backup."""
        unwanted = [id for id in known.subflows if id in self._links and self._use(known, self._links[id]) is Use.NONE]
        kept = any(self._alive(item) for item in known.subflows.items() if item[0] not in unwanted)
        if not (kept or self._first_alive(known)):
            return []
        return [order for id in unwanted for order in self._leave(token, known, id)]

    def _order(self, token: int, known: _Known, link: Link) -> list[Order]:
        remote = self._reachable(known, link)
        if remote is None:
            return []
        local = Endpoint(link.addresses[remote.family], id=link.id, device=link.device)
        subflow = known.subflows.setdefault(link.id, _Subflow())
        backup = self._use(known, link) is Use.BACKUP
        subflow.asked, subflow.backup = (local, remote), None if backup else False
        return [Join(token, local, remote, backup)]

    def _stranded(self, known: _Known) -> bool:
        """Whether no subflow is on a link that is up."""
        return not self._first_alive(known) and not any(map(self._alive, known.subflows.items()))

    def _alive(self, item: tuple[int, _Subflow]) -> bool:
        id, subflow = item
        return subflow.ends is not None and id in self._links and self._has(self._links[id], subflow.ends[0])

    def _first_alive(self, known: _Known) -> bool:
        return known.first_up and not known.first_lost and self._primary is not None

    @staticmethod
    def _has(link: Link, local: Endpoint) -> bool:
        return link.addresses.get(local.family) == local.address

    def _leave_dead(self, token: int, known: _Known) -> list[Order]:
        """Closes what has an address that is gone, and what is on links that are down.

        Unless that is all there is: such a link may be up again soon.
        """
        stranded = self._stranded(known)
        orders: list[Order] = []
        if not stranded and known.family is not None and known.first_up and not self._first_alive(known):
            orders.append(Leave(token, *ends(known.first)))
            known.first_up = False
        for id, subflow in list(known.subflows.items()):
            if id not in self._links:
                gone = not stranded
            else:
                gone = subflow.asked is not None and not self._has(self._links[id], subflow.asked[0])
            if gone:
                orders += self._leave(token, known, id)
        return orders

    def _leave(self, token: int, known: _Known, link: int) -> list[Order]:
        subflow = known.subflows.pop(link)
        self._retries.pop((token, link), None)
        left = subflow.ends or subflow.asked
        return [] if left is None else [Leave(token, *left)]

    def _is_ours(self, token: int, id: int) -> bool:
        """Not the first subflow, and not one of another program on this box."""
        return token in self._known and id in self._known[token].subflows

    def _is_up(self, token: int, local: Endpoint, remote: Endpoint) -> None:
        known = self._known[token]
        backup = known.subflows[local.id].backup
        known.subflows[local.id] = _Subflow((local, remote), (local, remote), backup=None if backup else backup)
        known.dead_since = None
        self._retries.pop((token, local.id), None)

    def _is_gone(self, token: int, link: int, error: int) -> bool:
        """By what the kernel says of orders: EINVAL for a token that it does not know, but not for that alone."""
        subflow = self._known[token].subflows[link]
        subflow.refusals = subflow.refusals + 1 if error == errno.EINVAL else 0
        return subflow.refusals >= _GONE

    def _try_later(self, token: int, link: int, now: float) -> None:
        subflow = self._known[token].subflows[link]
        subflow.ends = None
        self._retries[token, link] = now + subflow.wait
        subflow.wait = min(2 * subflow.wait, _LONGEST_WAIT)
        self._note_death(token, now)

    def _note_death(self, token: int, now: float) -> None:
        known = self._known[token]
        if known.dead_since is None and not known.first_up and not any(it.ends for it in known.subflows.values()):
            known.dead_since = now

    def _remember(self, token: int) -> None:
        self._forget(token)  # tokens come back
        self._known[token] = _Known()

    def _forget(self, token: int) -> None:
        known = self._known.pop(token, None)
        if known is not None:
            self.grown_now -= known.grown
            for link in known.subflows:
                self._retries.pop((token, link), None)

    def _reachable(self, known: _Known, link: Link) -> Endpoint | None:
        """The address for this link: of the connection's own family if the link has one of it.

        A connection over IPv6 takes IPv4 subflows too (its socket is of both families), not the other way round.
        """
        families = (known.family,) if known.family == socket.AF_INET else (socket.AF_INET6, socket.AF_INET)
        for family in families:
            # Configured ones alone, if there are any: whoever answers our first SYN may announce what he likes.
            for remote in self.configured or known.announced:
                if remote.family == family and family in link.addresses:
                    return remote
        return None
