# SPDX-License-Identifier: GPL-2.0-or-later
"""Subflows over the links: the path manager's events and the workers' news in, orders out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from common.config import CpeConfig
from common.log import about, log
from common.loop import IN, Loop, Timer
from common.path_events import Endpoint, EventsLost
from common.path_manager import PathManager
from common.survey import survey
from cpe import joins
from cpe.joins import Join, Joins, Leave, Order, Plans
from cpe.links import Links
from cpe.steering import Lane

_COMPANY: Final = 0.02  # seconds that path events wait for others
_BREATH: Final = 0.005  # seconds between parts of work that is not done in one go
_SURVEY: Final = 1.0  # seconds from a loss of events, which comes with a flood of them, to the look at what there is


class Paths:
    """What Joins decides, done.

    Most events are of short connections, for which there is nothing to do. So after a look the next ones wait for
    company: a wake-up for each would cost more than what is in it.
    """

    def __init__(self, loop: Loop, config: CpeConfig) -> None:
        self._loop = loop
        self._config = config
        self._manager = PathManager()
        self._joins = Joins(_join_endpoints(config))
        self._timer: Timer | None = None
        self._survey: Timer | None = None
        self._watch()

    def close(self) -> None:
        self._loop.remove(self._manager.fileno())
        self._manager.close()

    def adopt(self, config: CpeConfig) -> None:
        """Subflows to come go to where this configuration says."""
        self._joins.configured = _join_endpoints(config)

    @property
    def gateways(self) -> tuple[str, ...]:
        """The HAG's addresses, as far as they are known."""
        return self._joins.gateways()

    def use(self, links: Links) -> None:
        """The links that are up now, for all connections."""
        self._perform(self._joins.use(_links_up(self._config, links)))
        self._arm()

    def links_of(self, token: int) -> list[str]:
        """Names of the links that carry the connection now; token 0 is of one that is not bonded."""
        first = [] if self._joins.lost_first(token) else [self._config.primary.name]
        return [*first, *self._joins.links_of(token)]

    def backups_of(self, token: int) -> list[str]:
        """Those of them that carry only if no others do."""
        return self._joins.backups_of(token)

    @property
    def steered(self) -> int:
        """Connections that have grown, for which it matters what the links are to them."""
        return self._joins.grown_now

    def grown(self, tokens: Iterable[tuple[int, Lane]]) -> None:
        self._read()  # a connection's birth was told before its growth, on the other socket
        for token, lane in tokens:
            self._perform(self._joins.grown(token, lane, self._loop.now()))
        self._arm()

    def steer(self, plans: Plans) -> None:
        """What each link is to connections from now on; those that are there follow, some at a time."""
        self._joins.steer(plans, self._loop.now())
        self._arm()

    def _watch(self) -> None:
        self._loop.add(self._manager.fileno(), IN, self._on_events)

    def _on_events(self, _events: int) -> None:
        self._loop.remove(self._manager.fileno())
        self._loop.call_later(_COMPANY, self._watch)
        self._read()

    def _read(self) -> None:
        for event in self._manager.events():
            if isinstance(event, EventsLost):
                self._look_around_later()
                continue
            log.debug("%s", event)
            self._perform(self._joins.handle(event, self._loop.now()))
        self._arm()

    def _look_around_later(self) -> None:
        if self._survey is None:
            log.warning("path events were lost: some connections may stay without further subflows")
            self._survey = self._loop.call_later(_SURVEY, self._look_around)

    def _look_around(self) -> None:
        self._survey = None
        self._read()  # first, since what is told is older than what is found
        found = survey()
        if found is not None:
            self._perform(self._joins.reconcile(found, self._loop.now()))
            self._arm()

    def _arm(self) -> None:
        when = self._joins.next_retry()
        if when is None or (self._timer is not None and self._timer.when <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(max(when, self._loop.now() + _BREATH), self._retry)

    def _retry(self) -> None:
        self._timer = None
        self._perform(self._joins.retry(self._loop.now()))
        self._arm()

    def _perform(self, orders: list[Order]) -> None:
        for order in orders:
            log.debug("%s", order, extra=about(token=order.token, link=self._joins.name(order.local.id)))
            if isinstance(order, Leave):
                self._manager.leave(order.token, order.local, order.remote)
            else:
                act = self._manager.join if isinstance(order, Join) else self._manager.prioritize
                act(order.token, order.local, order.remote, order.backup)


def _join_endpoints(config: CpeConfig) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(str(address), config.join_port) for address in config.join_addresses)


def _links_up(config: CpeConfig, links: Links) -> list[joins.Link]:
    found = [(number, link, links.usable(link)) for number, link in enumerate(config.links, start=1)]
    return [
        joins.Link(link.name, number, usable.device, usable.addresses, link is config.primary)
        for number, link, usable in found
        if usable is not None
    ]
