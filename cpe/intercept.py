# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the LAN's connections are bonded: the CPE's decision on each new SYN."""

from __future__ import annotations

from collections.abc import Callable

from common.config import BypassRule, CpeConfig, NativeMptcp
from common.gate import BOND, Decision
from common.packet import Segment
from common.prefixes import SPECIAL, Prefixes

_SPECIAL = Prefixes(SPECIAL)  # no HAG lies on the way to these


class _Rule:
    """One bypass section with its prefixes ready to ask."""

    def __init__(self, rule: BypassRule) -> None:
        self._rule = rule
        self._destinations = Prefixes(rule.dsts)
        self._sources = Prefixes(rule.srcs)
        self.decision = Decision(rule.name)

    def matches(self, syn: Segment, device: Callable[[], str]) -> bool:
        rule = self._rule
        return (
            (not rule.dports or any(syn.dport in ports for ports in rule.dports))
            and (not rule.dsts or syn.destination in self._destinations)
            and (not rule.srcs or syn.source in self._sources)
            and (rule.dscp is None or syn.dscp == rule.dscp)
            and (not rule.devices or device() in rule.devices)
        )


class Interception:
    """The decision by configuration: bond, or pass on and why."""

    def __init__(
        self, config: CpeConfig, lacks: Callable[[int], str | None], device_name: Callable[[int], str]
    ) -> None:
        """``lacks`` says why the primary link takes no connections of an address family now, None if it does.

        ``device_name`` is asked only when a rule depends on it: the name that an ifindex has now.
        """
        self._rules = [_Rule(rule) for rule in config.bypass]
        self._lacks = lacks
        self._device_name = device_name
        self._passes_native = config.native_mptcp is NativeMptcp.PASS

    def decide(self, syn: Segment, device: int) -> Decision:
        """``device`` is the ifindex where the SYN arrived."""
        if (lacking := self._lacks(syn.family)) is not None:
            return Decision(lacking)
        if syn.destination in _SPECIAL:
            return Decision("private or special destination")
        for rule in self._rules:
            if rule.matches(syn, lambda: self._device_name(device)):
                return rule.decision
        if self._passes_native and syn.mp_capable is not None:
            return Decision("the client's own Multipath TCP")
        return BOND

    def decide_inbound(self, syn: Segment, device: int) -> Decision:
        """Of a SYN from the Internet that is on its way to a host of the LAN, or to a port forward's."""
        capable = syn.mp_capable
        if capable is None:
            return Decision("no MP_CAPABLE")
        if capable.version != 1 or not capable.no_join_here:
            return Decision("not a gateway's Multipath TCP", untouched=True)
        for rule in self._rules:
            if rule.matches(syn, lambda: self._device_name(device)):
                return rule.decision
        return BOND
