# SPDX-License-Identifier: GPL-2.0-or-later
"""Which access links can be used now, which not and why. Pure: what the kernel says of their devices in, changes out.

A link goes down at once. It is up again at once too, for subflows; new connections and everything else come back to
the primary link only after it has been up for a while, so that a line that flaps does not take them with it each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.config import CpeConfig, LinkConfig
from common.routing import DeviceState


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
    state: DeviceState | None
    down: str | None  # why; None is up
    since: float
    been_up: bool = False


class Links:
    """All links of the configuration. Before the first observe() none is up."""

    def __init__(self, config: CpeConfig, now: float) -> None:
        self._config = config
        self._known = {link.name: _Known(None, "not looked at yet", now) for link in config.links}
        self._back_from = float("-inf")  # when the primary link came up again, if it was down

    def observe(self, look: Callable[[str], DeviceState | None], now: float) -> list[Change]:
        """``look`` says what the kernel knows of a device."""
        changes = []
        for link in self._config.links:
            state = look(link.device)
            known, down = self._known[link.name], why_down(link.device, state)
            if down != known.down:
                changes.append(Change(link, down))
                known.since = now
                if link is self._config.primary and down is None and known.been_up:
                    self._back_from = now
                known.down = down
                known.been_up |= down is None
            known.state = state
        return changes

    def usable(self, link: LinkConfig) -> Usable | None:
        known = self._known[link.name]
        return None if known.down is not None or known.state is None else _usable(known.state)

    def states(self) -> Mapping[str, DeviceState]:
        """Of the devices of all links that are up, by link."""
        return {name: known.state for name, known in self._known.items() if known.down is None and known.state}

    def down(self, link: LinkConfig) -> str | None:
        """Why the link cannot be used; None if it can."""
        return self._known[link.name].down

    def since(self, link: LinkConfig) -> float:
        """When it went up or down."""
        return self._known[link.name].since

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
