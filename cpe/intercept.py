# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the LAN's connections are bonded, and by which policy: the CPE's decision on each new SYN."""

from __future__ import annotations

from collections.abc import Callable

from common.config import CpeConfig, NativeMptcp
from common.packet import Segment
from common.prefixes import SPECIAL, Prefixes
from common.role import BOND, Decision
from cpe.match import Matcher

_SPECIAL = Prefixes(SPECIAL)  # no HAG lies on the way to these


class Interception:
    """The decision by configuration: bond, or pass on and why."""

    def __init__(
        self, config: CpeConfig, lacks: Callable[[int], str | None], device_name: Callable[[int], str]
    ) -> None:
        """``lacks`` says why the primary link takes no connections of an address family now, None if it does.

        ``device_name`` is asked only when a section depends on it: the name that an ifindex has now.
        """
        self._sections = [(Matcher(rule), Decision(rule.name)) for rule in config.bypass]
        self._sections += [(Matcher(policy), Decision(policy=policy.name)) for policy in config.policies]
        self._lacks = lacks
        self._device_name = device_name
        self._passes_native = config.native_mptcp is NativeMptcp.PASS

    def decide(self, syn: Segment, device: int) -> Decision:
        """``device`` is the ifindex where the SYN arrived."""
        if (lacking := self._lacks(syn.family)) is not None:
            return Decision(lacking)
        if syn.destination in _SPECIAL:
            return Decision("private or special destination")
        decision = self._by_section(syn, device)
        if decision.passed is None and self._passes_native and syn.mp_capable is not None:
            return Decision("the client's own Multipath TCP")
        return decision

    def decide_inbound(self, syn: Segment, device: int) -> Decision:
        """Of a SYN from the Internet that is on its way to a host of the LAN, or to a port forward's."""
        capable = syn.mp_capable
        if capable is None:
            return Decision("no MP_CAPABLE")
        if capable.version != 1 or not capable.no_join_here:
            return Decision("not a gateway's Multipath TCP", untouched=True)
        return self._by_section(syn, device)

    def _by_section(self, syn: Segment, device: int) -> Decision:
        """Of the first bypass that matches, or else of the first policy."""
        for matches, decision in self._sections:
            if matches(syn, lambda: self._device_name(device)):
                return decision
        return BOND
