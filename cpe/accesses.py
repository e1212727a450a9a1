# SPDX-License-Identifier: GPL-2.0-or-later
"""The links as they come and go: what the kernel tells of their devices in; routes, workers and subflows follow."""

from __future__ import annotations

from typing import Final

from common import nft
from common.config import CpeConfig
from common.log import about, log
from common.loop import IN, Loop, Timer
from common.routing import Routing
from common.system import SystemLacks
from common.watch import Watch
from common.workers import Workers
from cpe.links import Links
from cpe.paths import Paths
from cpe.routes import routes
from cpe.upstream import Upstream

# Seconds between what the kernel tells and the look at what has come of it: a line that comes up is told of in pieces.
_SETTLES: Final = 0.02
_AGAIN: Final = 1.0  # seconds until what the kernel has refused is tried again


class Accesses:
    """Composed by cpe/daemon.py. Nothing follows before follow()."""

    def __init__(self, loop: Loop, config: CpeConfig, routing: Routing) -> None:
        self._loop = loop
        self._config = config
        self._routing = routing
        self.links = Links(config, loop.now())
        self.upstream = Upstream()
        self._watch = Watch()
        self._timer: Timer | None = None  # until it has settled
        self._back: Timer | None = None  # until the primary link has been up for long enough
        self._workers: Workers | None = None
        self._paths: Paths | None = None
        self._observe()

    def close(self) -> None:
        self._loop.remove(self._watch.fileno())
        self._watch.close()

    def follow(self, workers: Workers, paths: Paths) -> None:
        """From now on the kernel and these follow every change. Raises SystemLacks if the kernel does not, now."""
        self._workers, self._paths = workers, paths
        self._loop.add(self._watch.fileno(), IN, lambda _events: self._on_change())
        self._observe()
        self._arrange()

    def _on_change(self) -> None:
        if self._watch.changed() and self._timer is None:
            self._timer = self._loop.call_later(_SETTLES, self._update)

    def _update(self) -> None:
        self._timer = None
        try:
            self._observe()
            self._arrange()
        except SystemLacks as lack:
            # Perhaps the device went again between the look and the order: then that is told next.
            log.warning("what the kernel has does not follow the links, tried again: %s", lack)
            if self._timer is None:
                self._timer = self._loop.call_later(_AGAIN, self._update)

    def _observe(self) -> None:
        now = self._loop.now()
        for change in self.links.observe(self._routing.device, now):
            name = change.link.name
            if change.down is None:
                log.info("link %s is up", name, extra=about(link=name))
            else:
                log.warning("link %s is down: %s", name, change.down, extra=about(link=name, reason=change.down))
        primary = self._config.primary
        usable, back = self.links.usable(primary), self.links.comes_back(now)
        down = None
        if usable is None:
            down = "primary link is down"
        elif back is not None and self.links.default(now) is not None:
            down = "primary link has just come back"
        self.upstream.change(usable.addresses if usable else {}, down)
        if self._back is not None:
            self._back.cancel()
        self._back = None if back is None else self._loop.call_at(back, self._update)

    def _arrange(self) -> None:
        assert self._workers
        assert self._paths
        now = self._loop.now()
        self._workers.tell(self.upstream.told())
        try:
            install_routes(self._routing, self._config)
            self._routing.arrange(routes(self._config, self.links.states(), self.links.default(now)))
            if self._config.inbound:
                nft.fill({"primary4": f"{{ {self.upstream.address} }}"})
        finally:
            self._paths.use(self.links)  # new subflows need the routes; what is down is left whatever the kernel says


def install_routes(routing: Routing, config: CpeConfig) -> None:
    """Those that the links do not change, unless they are there; the others come with them (Accesses)."""
    routing.deliver_marked(config.table_base, config.rule_priority)
    routing.replay_marked(config.table_base, config.rule_priority)
