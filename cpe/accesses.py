# SPDX-License-Identifier: GPL-2.0-or-later
"""The links as they come and go: what the kernel tells of their devices, and the HAG's answers over them, in.

Routes, workers and subflows follow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from common import nft
from common.config import CpeConfig, Quic
from common.control import Reply
from common.link import LinkConfig
from common.log import about, log
from common.loop import IN, Loop, Timer
from common.meter import Counters
from common.routing import Routing
from common.system import SystemLacks
from common.watch import Watch
from common.workers import Workers
from cpe.interfaces import Interfaces
from cpe.links import Change, Links
from cpe.paths import Paths
from cpe.probe import Probes
from cpe.routes import natted, routes, shared
from cpe.traffic import Traffic
from cpe.upstream import Upstream

# Seconds between what the kernel tells and the look at what has come of it: a line that comes up is told of in pieces.
_SETTLES: Final = 0.02
_AGAIN: Final = 1.0  # seconds until what the kernel has refused is tried again
_MEASURED: Final = 0.5  # seconds over which rates are those of now
_AIM: Final = 2.0  # seconds between looks where the HAG is


class Accesses:
    """Composed by cpe/daemon.py. Nothing follows before follow()."""

    def __init__(self, loop: Loop, config: CpeConfig, routing: Routing) -> None:
        self._loop = loop
        self._config = config
        self._routing = routing
        self.links = Links(config, loop.now())
        self.upstream = Upstream()
        self.bounds: Callable[[LinkConfig], dict[str, Any] | None] = lambda _link: None  # what else is to be told
        self._way = config.primary.name  # of new connections
        self._watch = Watch()
        self._interfaces = Interfaces(config)
        self._timer: Timer | None = None  # until it has settled
        self._back: Timer | None = None  # until the primary link has been up for long enough
        self._filled: tuple[dict[str, str], dict[str, str]] | None = None  # nftables' sets and maps
        self._shared: set[str] = set()  # addresses that several links have, as far as that has been told
        self._workers: Workers | None = None
        self._paths: Paths | None = None
        self._traffic: Traffic | None = None
        self._probes = Probes()
        self._look: Timer | None = None  # at answers and counters
        self._next_aim = 0.0
        self._deaf = False  # the HAG, it seems
        if self._interfaces:
            self._interfaces.ask(loop.now())
        self._observe()

    def close(self) -> None:
        self._loop.remove(self._watch.fileno())
        self._watch.close()
        self._probes.close()

    def adopt(self, config: CpeConfig) -> None:
        """Goes by another configuration of the same links."""
        self._config = config
        self._interfaces.adopt(config)
        self.links.adopt(config)
        self.look_again()
        self._aim()
        self._wait()

    def follow(self, workers: Workers, paths: Paths, traffic: Traffic) -> None:
        """From now on the kernel and these follow every change. Raises SystemLacks if the kernel does not, now."""
        self._workers, self._paths, self._traffic = workers, paths, traffic
        self._loop.add(self._watch.fileno(), IN, lambda _events: self._on_change())
        self._observe()
        self._arrange()
        self._aim()
        self._wait()

    def describe(self) -> list[dict[str, Any]]:
        """For people and programs that look in."""
        now = self._loop.now()
        return [
            {
                "name": link.name,
                "interface": link.interface,
                "device": self.links.device(link),
                "role": link.role.value,
                "addresses": list(usable.addresses.values()) if (usable := self.links.usable(link)) else [],
                "up": usable is not None,
                "reason": self.links.down(link),
                "since": round(now - self.links.since(link), 1),
                "bounds": self.bounds(link),
            }
            for link in self._config.links
        ]

    def report(self, reply: Reply) -> None:
        """Replies with all that is known of each link, in a moment: its rates (bit/s) are those of that moment."""
        start, before = self._loop.now(), self._counters()

        def complete() -> None:
            seconds, after = self._loop.now() - start, self._counters()
            reply([{**link, **self._vitals(link["name"], before, after, seconds)} for link in self.describe()])

        self._loop.call_later(_MEASURED, complete)

    def _counters(self) -> dict[str, Counters]:
        states = self.links.states()
        found = {name: self._probes.meter.read(state.index) for name, state in states.items()}
        return {name: counters for name, counters in found.items() if counters is not None}

    def _vitals(
        self, name: str, before: dict[str, Counters], after: dict[str, Counters], seconds: float
    ) -> dict[str, Any]:
        link = next(link for link in self._config.links if link.name == name)
        old, new = before.get(name), after.get(name)
        return {
            **self.links.health.describe(name),
            "not_probed": self.links.why_unasked(link, self._paths.gateways if self._paths else ()),
            "down_rate": round(8 * (new.bytes_down - old.bytes_down) / seconds) if old and new else None,
            "up_rate": round(8 * (new.bytes_up - old.bytes_up) / seconds) if old and new else None,
        }

    def lan(self, config: CpeConfig) -> list[str]:
        """The devices of the LANs that there are now."""
        named = self._interfaces.devices
        return list(dict.fromkeys([*config.lan, *(named[name] for name in config.lan_interface if name in named)]))

    def lan_sets(self, config: CpeConfig) -> dict[str, str]:
        """What nftables has to know of the LANs. Nothing is forwarded from the loopback device."""
        lan = self.lan(config)
        return {"lan": nft.names(lan), "quic": nft.names(lan if config.quic is Quic.FALLBACK else ("lo",))}

    def look_again(self) -> None:
        """At the interfaces of OpenWrt: somebody knows that one has another device."""
        if self._interfaces:
            self._interfaces.forget()
            self._interfaces.ask(self._loop.now())
            self._update()

    def fill_again(self) -> None:
        """nftables' sets and maps are as they were loaded: somebody has put in the table again. Raises SystemLacks."""
        self._filled = None
        self._fill()

    def bar(self, reasons: Mapping[str, str]) -> None:
        """These links, by name, are down for everything, whatever the kernel says of them."""
        if reasons != self.links.barred:
            self.links.barred = reasons
            self._update()

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
        self._aim()
        self._wait()

    def _probe(self) -> None:
        """Reads what was answered, sends what is due, and follows what comes of it."""
        now, health = self._loop.now(), self.links.health
        for name, sequence, age in self._probes.answers():
            health.answered(name, sequence, now - age)
        before = health.verdicts
        for probe in health.act(now, self._probes.packets()):
            self._probes.send(probe.link, probe.sequence)
        if now >= self._next_aim:
            self._aim()
        if health.verdicts != before:
            self._update()
        if health.unanswered(now) != self._deaf:
            self._deaf = not self._deaf
            if self._deaf:
                log.warning("the HAG answers no echo requests: a loss that no device shows is left to TCP")
        self._wait()

    def _wait(self) -> None:
        if self._look is not None:
            self._look.cancel()
        due = self.links.health.due(self._loop.now())
        self._look = self._loop.call_at(self._next_aim if due is None else min(due, self._next_aim), self._probe)

    def _aim(self) -> None:
        """At where the HAG is now, over the links that the kernel shows up now."""
        assert self._paths
        now = self._loop.now()
        self._next_aim = now + _AIM
        aims = self.links.aims(self._paths.gateways)
        self.links.health.aim(self._probes.aim(aims, self.links.devices()), now)

    def _changes(self) -> list[Change]:
        look, now = self._routing.device, self._loop.now()
        changes = self.links.observe(look, now, self._interfaces.devices)
        if self._interfaces.lack(self.links.states()):
            again = self._interfaces.ask(now)
            if again is not None and self._timer is None:
                self._timer = self._loop.call_at(again, self._update)
            changes += self.links.observe(look, now, self._interfaces.devices)
        return changes

    def _observe(self) -> None:
        now = self._loop.now()
        for change in self._changes():
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
        state = self.links.states().get(primary.name)
        self.upstream.change(usable.addresses if usable else {}, down, state.gateways.keys() if state else ())
        if self._back is not None:
            self._back.cancel()
        self._back = None if back is None else self._loop.call_at(back, self._update)

    def _arrange(self) -> None:
        assert self._workers
        assert self._traffic
        now = self._loop.now()
        try:
            install_routes(self._routing, self._config)
            default = self.links.default(now)
            self._routing.arrange(routes(self._config, self.links.states(), default))
            self._tell_way(default)
            self._fill()
        finally:
            self._workers.tell(self.upstream.told())  # what waits there goes by the routes as they are then
            self._traffic.use(self.links)  # new subflows need the routes; what is down is left whatever the kernel says

    @property
    def primary(self) -> str:
        """A set with the primary link's device, for a variable of nftables."""
        return nft.names(filter(None, [self.links.device(self._config.primary)]))

    def _sets(self) -> dict[str, str]:
        """What nftables has to know of the links, less what never changes."""
        links = nft.names(self.links.devices().values())
        sets = {"links": links, "links_found": links, **self.lan_sets(self._config)} if self._interfaces else {}
        if self._config.inbound:
            sets["primary"] = self.primary
            sets["primary4"] = f"{{ {self.upstream.address} }}"
        return sets

    def _tell_way(self, default: LinkConfig | None) -> None:
        """Of new connections and all that is not bonded, where it is another one."""
        primary = self._config.primary
        down = self.links.down(primary)
        if default is None and down is not None:
            return  # nowhere
        way = (default or primary).name
        if way == self._way:
            return
        self._way = way
        if default is None:
            reason = "the primary link is up"
        else:
            reason = f"{primary.name} is down: {down}" if down else f"{primary.name} has just come back"
        what = "new connections, and what is not bonded, go by %s from now on: %s"
        log.log(logging.WARNING if default else logging.INFO, what, way, reason, extra=about(link=way, reason=reason))

    def _warn_of_shared(self) -> None:
        for address, (first, *others) in shared(self._config, self.links.states()).items():
            if address not in self._shared:
                self._shared.add(address)
                text = "links %s have the same address, %s: what the router's NAT gives it counts as begun over link %s"
                log.warning(text, " and ".join((first, *others)), address, first, extra=about(link=first))

    def _fill(self) -> None:
        self._warn_of_shared()
        began = [f"{address} : goto began_{place}" for address, place in natted(self._config, self.links.states())]
        maps = {"began": f"{{ {', '.join(began)} }}" if began else ""}
        sets = self._sets()
        if (sets, maps) != self._filled:
            nft.fill(sets, maps)
            self._filled = sets, maps


def install_routes(routing: Routing, config: CpeConfig) -> None:
    """Those that the links do not change, unless they are there; the others come with them (Accesses)."""
    routing.deliver_marked(config.table_base, config.rule_priority)
    routing.replay_marked(config.table_base, config.rule_priority)
