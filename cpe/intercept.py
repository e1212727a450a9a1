# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the LAN's connections are bonded: the CPE's decision on each new SYN."""

from __future__ import annotations

from ipaddress import ip_network

from common.config import BypassRule, CpeConfig
from common.gate import BOND, Decision
from common.packet import Segment
from common.prefixes import Prefixes

# No HAG lies on the way to these (RFC 6890 and its successors' registries of special-purpose addresses).
_NEVER = Prefixes(
    ip_network(prefix)
    for prefix in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
        "::/8",  # unspecified, loopback, IPv4-mapped
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    )
)


class _Rule:
    """One bypass section with its prefixes ready to ask."""

    def __init__(self, rule: BypassRule) -> None:
        self._rule = rule
        self._destinations = Prefixes(rule.dsts)
        self._sources = Prefixes(rule.srcs)
        self.decision = Decision(rule.name)

    def matches(self, syn: Segment) -> bool:
        rule = self._rule
        return (
            (not rule.dports or any(syn.dport in ports for ports in rule.dports))
            and (not rule.dsts or syn.destination in self._destinations)
            and (not rule.srcs or syn.source in self._sources)
            and (rule.dscp is None or syn.dscp == rule.dscp)
        )


class Interception:
    """The decision by configuration: bond, or pass on and why."""

    def __init__(self, config: CpeConfig, families: frozenset[int]) -> None:
        """``families`` are the address families that the primary link has."""
        self._rules = [_Rule(rule) for rule in config.bypass]
        self._families = families

    def decide(self, syn: Segment) -> Decision:
        if syn.family not in self._families:
            return Decision("primary link lacks the address family")
        if syn.destination in _NEVER:
            return Decision("private or special destination")
        for rule in self._rules:
            if rule.matches(syn):
                return rule.decision
        return BOND
