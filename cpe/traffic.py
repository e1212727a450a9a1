# SPDX-License-Identifier: GPL-2.0-or-later
"""What the links carry, looked at some times a second while there is something to steer; subflows follow."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from common.config import CpeConfig
from common.link import LinkConfig
from common.log import about, log
from common.loop import Loop, Timer
from common.meter import Counters, Meter
from common.policy import Steering as Mode
from cpe.capacity import Carried
from cpe.governor import Governor
from cpe.joins import Plans
from cpe.links import Links
from cpe.paths import Paths
from cpe.steering import Allowed, Change, Steering, Use

_LOOK: Final = 0.1  # seconds between looks
_IDLE: Final = 0.5  # while next to nothing is carried
_NOTHING: Final = 250_000  # bit/s
_SHORT: Final = 0.02  # seconds in which too little is carried to say anything

_NOW: Final = {Use.CARRY: "carries", Use.BACKUP: "is a backup", Use.NONE: "gets no subflows"}


@dataclass(frozen=True, slots=True)
class _Reading:
    when: float
    device: int
    counters: Counters


class Traffic:
    """Composed by cpe/daemon.py. ``lan`` tells which devices the LANs of a configuration have now."""

    def __init__(
        self, loop: Loop, config: CpeConfig, links: Links, paths: Paths, lan: Callable[[CpeConfig], list[str]]
    ) -> None:
        self._loop = loop
        self._config = config
        self._links = links
        self._paths = paths
        self._devices = lan
        self.steering = Steering(config)
        rates = {link.name: (link.rate_down, link.rate_up) for link in config.links}
        self._governor = Governor(rates, config.primary.name)
        self._meter = Meter()
        self._readings: dict[str, _Reading] = {}
        self._plans: Plans = {}
        self._timer: Timer | None = None

    def close(self) -> None:
        self._meter.close()

    def adopt(self, config: CpeConfig) -> None:
        self._config = config
        self.steering.adopt(config)
        self._look()

    def restrict(self, restricted: Mapping[str, tuple[Allowed, str]], turns: bool) -> None:
        """How far links may be used from now on, by name, and why; those that it lacks may be for all.

        ``turns`` is that links take turns to keep a rate: what comes of that is no news.
        """
        self.steering.restricted = restricted
        self._look(logging.DEBUG if turns else logging.INFO)

    def set(self, mode: Mode) -> None:
        """Until the configuration has another one."""
        log.info("steering is %s, until the configuration changes or the daemon ends", mode.value)
        self.steering.set(mode)
        self._look()

    def grown(self, tokens: Mapping[str, list[int]]) -> None:
        """Connections that are worth more subflows, by their policy."""
        if self._timer is None:
            self._readings.clear()
            self.steering.pause()
            self._look()
        lanes = [(token, (policy, self.steering.place())) for policy, them in tokens.items() for token in them]
        self._paths.grown(lanes)
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK, self._tick)

    def use(self, links: Links) -> None:
        """The links that are up now."""
        self._look()
        self._paths.use(links)

    def describe(self) -> list[dict[str, Any]]:
        """Of each link, what it carries and can carry, in bit/s as far as is known."""
        looks = self._timer is not None
        return [
            {
                "name": name,
                "down_rate": round(it.down.mean) if looks else None,
                "up_rate": round(it.up.mean) if looks else None,
                "down_capacity": it.down.rate and round(it.down.rate),
                "up_capacity": it.up.rate and round(it.up.rate),
            }
            for name, it in self.steering.capacities.items()
        ]

    def _tick(self) -> None:
        pause = _LOOK if self._look() else _IDLE
        self._timer = None
        if self._paths.steered or (self.steering.together and self._governor.tries) or not self.steering.resting:
            self._timer = self._loop.call_later(pause, self._tick)

    def _look(self, level: int = logging.INFO) -> bool:
        """Has subflows follow what the links carry; says whether that is worth another look soon."""
        now = self._loop.now()
        up = {link.name: usable.device for link in self._config.links if (usable := self._links.usable(link))}
        carried = {
            link.name: it
            for link in self._config.links
            if link.name in up and (it := self._read(link, up[link.name], now))
        }
        if self.steering.together:
            self._govern(up, now)
        for change in self.steering.look(carried, up, now):
            _tell(change, level)
        plans = self.steering.plans()
        if plans != self._plans:
            self._plans = plans
            self._paths.steer(plans)
        return len(carried) < len(up) or any(it.down + it.up > _NOTHING for it in carried.values())

    def _govern(self, up: Mapping[str, int], now: float) -> None:
        """Demotes what slows the others down.

        Links that are not read yet do not count, nor those that wait now because of a bound: one that takes turns to
        keep a rate has carried more for a moment than arrives in the mean, and would be tried without.
        """
        waits = self.steering.restricted
        read = {
            name: it.counters for name, it in self._readings.items() if up.get(name) == it.device and name not in waits
        }
        carried = {name: (it.bytes_down, it.bytes_up) for name, it in read.items()}
        trips = {name: it.best for name, it in self.steering.capacities.items() if it.best is not None}
        self._governor.observe(carried, self._lan(), now, trips)
        self.steering.demoted = self._governor.demoted
        self.steering.leaving = self._governor.leaving(now)

    def _lan(self) -> tuple[int, int]:
        """Bytes that the LAN has got and sent so far. What is up for this box's device there goes to the LAN."""
        got = sent = 0
        for name in self._devices(self._config):
            with contextlib.suppress(OSError):  # it has gone, and may be back
                if (counters := self._meter.read(socket.if_nametoindex(name))) is not None:
                    got, sent = got + counters.bytes_up, sent + counters.bytes_down
        return got, sent

    def _read(self, link: LinkConfig, device: int, now: float) -> Carried | None:
        """Since the reading before; None if there is none, or only just."""
        name = link.name
        before = self._readings.get(name)
        if before is not None and before.device == device and now - before.when < _SHORT:
            return None
        try:
            counters = self._meter.read(device)
        except OSError as error:
            log.debug("what link %s carries is not known: %s", name, error.strerror)
            return None
        if counters is None:  # it has gone, which will be told
            return None
        self._readings[name] = _Reading(now, device, counters)
        if before is None or before.device != device:
            return None
        seconds, then = now - before.when, before.counters
        down, up = counters.bytes_down - then.bytes_down, counters.bytes_up - then.bytes_up
        return Carried(8 * down / seconds, 8 * up / seconds, seconds, self._links.rtt(link, now))


def _tell(change: Change, level: int) -> None:
    link, mode, reason = change.link, change.mode.value, change.choice.reason
    fields = about(link=link, steering=mode, use=change.choice.use.value, reason=reason)
    log.log(level, "link %s %s in mode %s: %s", link, _NOW[change.choice.use], mode, reason, extra=fields)
