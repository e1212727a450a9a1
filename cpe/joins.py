# SPDX-License-Identifier: GPL-2.0-or-later
"""Which connection gets a subflow over which secondary link, and when. Pure: path events in, orders out.

A connection is joined when three things are known of it, in whatever order they come: it is established for the path
manager; it has grown past the join threshold, so it is one of ours and worth a subflow; and there is an address to join
at, given by the configuration or, without that, announced by its HAG. One subflow for each secondary link; one that
fails is tried again, each time after twice the wait, for as long as the connection lives. One that has had no subflow
at all for a while is left to the kernel, which ends it (net.mptcp.close_timeout) unless somebody keeps trying.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
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
)

_FIRST_WAIT: Final = 1.0  # seconds
_LONGEST_WAIT: Final = 30.0
_HOPE: Final = 30.0  # seconds without any subflow after which no more are ordered
_HEARD: Final = 256  # announcements that connections share
_FIRST: Final = 0  # address id of a connection's first subflow


@dataclass(frozen=True, slots=True)
class Join:
    """An order for the path manager."""

    token: int
    local: Endpoint
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class SecondaryLink:
    """A link that subflows may use. ``id`` is its MPTCP address id, other than 0, which is the first subflow's."""

    name: str
    id: int
    device: int
    addresses: dict[int, str]  # family -> address


@dataclass(slots=True)
class _Subflow:
    up: bool = False
    wait: float = _FIRST_WAIT


@dataclass(slots=True)
class _Known:
    family: int | None = None  # None until established
    grown: bool = False
    announced: tuple[Endpoint, ...] = ()
    subflows: dict[int, _Subflow] = field(default_factory=dict)  # by link id
    first_up: bool = True
    dead_since: float | None = None  # when the last subflow went down


class Joins:
    """All connections of the CPE that the path manager or a worker has told of."""

    def __init__(self, links: Iterable[SecondaryLink], configured: Iterable[Endpoint] = ()) -> None:
        """``configured`` are addresses of the HAG, which then take the place of announced ones."""
        self._links = {link.id: link for link in links}
        self.configured = tuple(configured)
        self._known: dict[int, _Known] = {}
        self._retries: dict[tuple[int, int], float] = {}  # (token, link id) -> when
        self._heard: dict[tuple[Endpoint, ...], tuple[Endpoint, ...]] = {}

    def links_of(self, token: int) -> tuple[str, ...]:
        """Names of the secondary links that carry a subflow of this connection now."""
        known = self._known.get(token)
        if known is None:
            return ()
        return tuple(self._links[id].name for id, subflow in known.subflows.items() if subflow.up)

    def name(self, link: int) -> str:
        """Of a secondary link, by its id."""
        return self._links[link].name

    def grown(self, token: int) -> list[Join]:
        """A worker says that this connection is worth more subflows; it may be over by now."""
        known = self._known.get(token)
        if known is None:
            return []
        known.grown = True
        return self._orders(token, known)

    def handle(self, event: PathEvent, now: float) -> list[Join]:
        """What the event asks for."""
        match event:
            case Created(token):
                self._remember(token)
            case Closed(token):
                self._forget(token)
            case Established(token, family) if token in self._known:
                known = self._known[token]
                known.family = family
                return self._orders(token, known)
            case Announced(token, remote) if token in self._known:
                known = self._known[token]
                known.announced = self._same((*(old for old in known.announced if old.id != remote.id), remote))
                return self._orders(token, known)
            case SubflowEstablished(token, local) if self._is_ours(token, local.id):
                self._known[token].subflows[local.id] = _Subflow(up=True)
                self._known[token].dead_since = None
                self._retries.pop((token, local.id), None)
            case SubflowClosed(token, local) if token in self._known and local.id == _FIRST:
                self._known[token].first_up = False
                self._note_death(token, now)
            case SubflowClosed(token, local) if self._is_ours(token, local.id):
                self._try_later(token, local.id, now)
            case JoinFailed(token, id) if self._is_ours(token, id):
                self._try_later(token, id, now)
        return []

    def next_retry(self) -> float | None:
        """When retry() has something to do."""
        return min(self._retries.values(), default=None)

    def retry(self, now: float) -> list[Join]:
        """Orders for subflows whose wait is over."""
        orders = []
        for (token, link), when in list(self._retries.items()):
            if when <= now:
                del self._retries[token, link]
                dead_since = self._known[token].dead_since
                if dead_since is None or now - dead_since < _HOPE:
                    orders += self._order(token, self._known[token], self._links[link])
        return orders

    def _same(self, announced: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """The very one that other connections have: most hear the same of the same HAG, and there may be thousands."""
        if len(self._heard) >= _HEARD:  # strangers may announce what they like
            self._heard.clear()
        return self._heard.setdefault(announced, announced)

    def _orders(self, token: int, known: _Known) -> list[Join]:
        if known.family is None or not known.grown:
            return []
        orders = []
        for link in self._links.values():
            if link.id not in known.subflows:
                orders += self._order(token, known, link)
        return orders

    def _order(self, token: int, known: _Known, link: SecondaryLink) -> list[Join]:
        remote = self._reachable(known, link)
        if remote is None:
            return []
        known.subflows.setdefault(link.id, _Subflow())
        local = Endpoint(link.addresses[remote.family], id=link.id, device=link.device)
        return [Join(token, local, remote)]

    def _is_ours(self, token: int, id: int) -> bool:
        """Not the first subflow, and not one of another program on this box."""
        return token in self._known and id in self._known[token].subflows

    def _try_later(self, token: int, link: int, now: float) -> None:
        subflow = self._known[token].subflows[link]
        subflow.up = False
        self._retries[token, link] = now + subflow.wait
        subflow.wait = min(2 * subflow.wait, _LONGEST_WAIT)
        self._note_death(token, now)

    def _note_death(self, token: int, now: float) -> None:
        known = self._known[token]
        if known.dead_since is None and not known.first_up and not any(it.up for it in known.subflows.values()):
            known.dead_since = now

    def _remember(self, token: int) -> None:
        self._forget(token)  # tokens come back
        self._known[token] = _Known()

    def _forget(self, token: int) -> None:
        known = self._known.pop(token, None)
        if known is not None:
            for link in known.subflows:
                self._retries.pop((token, link), None)

    def _reachable(self, known: _Known, link: SecondaryLink) -> Endpoint | None:
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
