# SPDX-License-Identifier: GPL-2.0-or-later
"""Which access links can be used now, which not and why. Pure: what the kernel says of their devices in, changes out.

A link is down if the kernel shows it, or if the HAG does not answer over it (cpe/health.py). It goes down at once. It
is up again at once too, for subflows; new connections and everything else come back to the primary link only after it
has been up for a while, so that a line that flaps does not take them with it each time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from common.config import CpeConfig
from common.link import LinkConfig
from common.routing import DeviceState
from cpe.health import Aim, Health, family_of

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Usable:
    """A link that is up: its device, and by family the address to use."""

    device: int
    addresses: dict[int, str]


@dataclass(frozen=True, slots=True)
class Change:
    """A link has gone up or, for a reason, down."""

    link: LinkConfig
    down: str | None


@dataclass(slots=True)
class _Known:
    device: str | None  # its name; None of an interface that has none
    state: DeviceState | None  # while the kernel shows it up
    down: str | None  # why; None is up
    since: float
    been_up: bool = False


class Links:
    """All links of the configuration. Before the first observe() none is up."""

    def __init__(self, config: CpeConfig, now: float) -> None:
        self._config = config
        self.health = Health(config.probe_interval / 1000, config.probe_count)
        self._known = {link.name: _Known(link.device, None, "not looked at yet", now) for link in config.links}
        self.barred: Mapping[str, str] = {}  # links that are not to be used, by name, and why: down to everybody
        self._back_from = float("-inf")  # when the primary link came up again, if it was down

    def observe(
        self, look: Callable[[str], DeviceState | None], now: float, named: Mapping[str, str] = _NONE
    ) -> list[Change]:
        """``look`` says what the kernel knows of a device, ``named`` are the devices of interfaces."""
        lacks = self._name(named)
        shown = {}
        for link in self._config.links:
            known = self._known[link.name]
            state = look(known.device) if known.device else None
            why = why_down(known.device, state) if known.device else lacks[link.name]
            shown[link.name] = why or self.barred.get(link.name)
            known.state = None if shown[link.name] else state
        self.health.keep((name for name, why in shown.items() if why is None), now)
        changes = []
        for link in self._config.links:
            known = self._known[link.name]
            down = shown[link.name] or self.health.dead(link.name)
            if down != known.down:
                changes.append(Change(link, down))
                known.since = now
                again = known.been_up and not self.health.was_mistaken(link.name)
                if link is self._config.primary and down is None and again:
                    self._back_from = now
                known.down = down
                known.been_up |= down is None
        return changes

    def _name(self, named: Mapping[str, str]) -> dict[str, str]:
        """Notes which devices the links have now; says why of those that have none. No two links share a device."""
        taken = {named[name]: f"of interface '{name}'" for name in self._config.lan_interface if name in named}
        taken |= {device: "of 'list lan'" for device in self._config.lan}
        taken |= {link.device: f"of link '{link.name}'" for link in self._config.links if link.device}
        lacks = {}
        for link in self._config.links:
            if link.interface is None:
                continue
            device = named.get(link.interface)
            if device is None:
                lacks[link.name] = f"interface '{link.interface}' has no device"
            elif device in taken:
                lacks[link.name] = f"interface '{link.interface}' has device '{device}', which is that {taken[device]}"
                device = None
            else:
                taken[device] = f"of link '{link.name}'"
            self._known[link.name].device = device
        return lacks

    def device(self, link: LinkConfig) -> str | None:
        """The name of its device, whether that is there or not; None of an interface that has none now."""
        return self._known[link.name].device

    def devices(self) -> dict[str, str]:
        """Those names, by link, of all links that have one."""
        return {name: known.device for name, known in self._known.items() if known.device}

    def aims(self, gateways: Collection[str]) -> dict[str, Aim]:
        """Who is to be asked over which link, by the HAG's addresses: over IPv4 if that can be, as it takes less.

        Of several addresses of a family it is the first, as for subflows.
        """
        aims = {}
        for link in self._config.links:
            if self.why_unasked(link, gateways) is None:
                usable = self._shown_up(link)
                assert usable
                target = min((it for it in gateways if family_of(it) in usable.addresses), key=family_of)
                family = family_of(target)
                aims[link.name] = Aim(usable.device, usable.addresses[family], target)
        return aims

    def why_unasked(self, link: LinkConfig, gateways: Collection[str]) -> str | None:
        """Why nobody is asked over the link; None if somebody is."""
        if not self._config.probe_interval:
            return "probe_interval is 0"
        usable = self._shown_up(link)
        if usable is None:
            return "the link is down"
        if len(self.states()) < 2:
            return "there is no other link up"
        if not gateways:
            return "the HAG's address is not known yet"
        if not any(family_of(it) in usable.addresses for it in gateways):
            return "the HAG is not known by an address of the link's family"
        return None

    def adopt(self, config: CpeConfig) -> None:
        """Goes by another configuration of the same links."""
        self._config = config
        self.health.interval, self.health.count = config.probe_interval / 1000, config.probe_count

    def rtt(self, link: LinkConfig, now: float) -> float | None:
        """Of packets to the HAG and back, in seconds, smoothed; None while nothing is known of it, or of late."""
        return self.health.rtt(link.name, now)

    def usable(self, link: LinkConfig) -> Usable | None:
        return None if self._known[link.name].down is not None else self._shown_up(link)

    def _shown_up(self, link: LinkConfig) -> Usable | None:
        """By the kernel, that is."""
        state = self._known[link.name].state
        return None if state is None else _usable(state)

    def states(self) -> Mapping[str, DeviceState]:
        """Of the devices of all links that the kernel shows up, by link: also where nobody answers now."""
        return {name: known.state for name, known in self._known.items() if known.state}

    def down(self, link: LinkConfig) -> str | None:
        """Why the link cannot be used; None if it can."""
        return self._known[link.name].down

    def since(self, link: LinkConfig) -> float:
        """When it went up or down."""
        return self._known[link.name].since

    def alone(self, link: LinkConfig) -> bool:
        """Whether no other link is up."""
        return not any(self.down(other) is None for other in self._config.links if other.name != link.name)

    def comes_back(self, now: float) -> float | None:
        """When the primary link, up again, gets everything back; None if it has it, or is down."""
        until = self._back_from + self._config.hold
        return until if self.down(self._config.primary) is None and now < until else None

    def default(self, now: float) -> LinkConfig | None:
        """The link of everything that is not bonded; None if that is the main table's affair.

        It is for as long as the primary link is up, or none is.
        """
        primary = self._config.primary
        if self.down(primary) is None and self.comes_back(now) is None:
            return None
        return next((link for link in self._config.secondaries if self.down(link) is None), None)


def why_down(device: str, state: DeviceState | None) -> str | None:
    """None if the device can carry subflows: it has an address of some family with a default route through it."""
    if state is None:
        return f"there is no device '{device}'"
    if not state.enabled:
        return f"'{device}' is switched off"
    if not state.carrier:
        return f"'{device}' has no carrier"
    if not any(state.addresses.values()):
        return f"'{device}' has no address"
    if not _usable(state).addresses:
        return f"'{device}' has no default route for its addresses"
    return None


def _usable(state: DeviceState) -> Usable:
    return Usable(
        state.index,
        {family: found[0] for family, found in state.addresses.items() if found and family in state.gateways},
    )
