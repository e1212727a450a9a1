# SPDX-License-Identifier: GPL-2.0-or-later
"""For whom, and to where, the HAG opens connections: nobody but subscribers, never to the HAG or what it protects.

What it does not open it passes on as it would without us, so the operator's own rules decide. A connection that the HAG
opens is its own instead, and may reach what no rule for forwarded packets ever sees. The HAG's own addresses never come
here (nftables/hybrid-hag.nft), and the same file has the last word on where a server leg goes.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from common.config import HagConfig, NativeMptcp
from common.packet import Segment
from common.prefixes import SPECIAL, Network, Prefixes
from common.role import BOND, Decision

# Prefixes of IPv6 that say an IPv4 address in other words: what is protected in one spelling must be so in all of them.
# More of them (mapped, NAT64) are in ::/8, which is special. ISATAP has none (RFC 5214): its marker is in the middle.
TRANSLATED: Final[tuple[Network, ...]] = tuple(
    ip_network(prefix)
    for prefix in (
        "2001::/32",  # Teredo (RFC 4380)
        "2002::/16",  # 6to4 (RFC 3056)
    )
)

_ISATAP: Final = 0x00005EFE << 32
_ISATAP_MASK: Final = 0xFDFFFFFF << 32  # without the bit that tells global IPv4 addresses from private ones

_NO_OPTION = Decision("no MP_CAPABLE")
_OLD_VERSION = Decision("another version of Multipath TCP", untouched=True)
_NATIVE = Decision("not a router's Multipath TCP", untouched=True)
_NO_SUBSCRIBER = Decision("not a subscriber")
_SPECIAL = Decision("private or special destination")
_PROTECTED = Decision("protected destination")
_SPECIAL_SOURCE = Decision("private or special source")
_PROTECTED_SOURCE = Decision("protected source")
_BETWEEN_SUBSCRIBERS = Decision("source is a subscriber")
_SUBSCRIBER = Decision("destination is a subscriber")


def closed(config: HagConfig) -> Iterable[Network]:
    """Where no connection is opened to, whoever asks: for the kernel, which has the last word."""
    return (*SPECIAL, *TRANSLATED, *config.protect)


class Admission:
    """The decision on each new SYN: bond, or pass on without MP_CAPABLE and why."""

    def __init__(self, config: HagConfig) -> None:
        self._subscribers = Prefixes(config.subscribers)
        self._special = Prefixes((*SPECIAL, *TRANSLATED))
        self._protected = Prefixes(config.protect)
        self._ends_native = config.native_mptcp is NativeMptcp.BOND

    def decide(self, syn: Segment, _device: int = 0) -> Decision:
        capable = syn.mp_capable
        if capable is None:
            return _NO_OPTION
        if capable.version != 1:
            return _OLD_VERSION  # than our kernel's, RFC 8684
        if not (capable.no_join_here or self._ends_native):
            return _NATIVE
        if syn.source not in self._subscribers:
            return _NO_SUBSCRIBER
        if syn.destination in self._special or _is_isatap(syn.destination):
            return _SPECIAL
        if syn.destination in self._protected:
            return _PROTECTED
        if syn.destination in self._subscribers:
            return _SUBSCRIBER
        return BOND


class InboundAdmission:
    """The decision on each SYN from the Internet for a subscriber, which the gateway's firewall has let through."""

    def __init__(self, config: HagConfig) -> None:
        self._subscribers = Prefixes(config.subscribers)
        self._special = Prefixes((*SPECIAL, *TRANSLATED))
        self._protected = Prefixes(config.protect)

    def decide(self, syn: Segment, _device: int = 0) -> Decision:
        if syn.mp_capable is not None:
            return _NATIVE
        if syn.destination not in self._subscribers:
            return _NO_SUBSCRIBER
        if syn.destination in self._protected:
            return _PROTECTED
        if syn.source in self._special or _is_isatap(syn.source):
            return _SPECIAL_SOURCE
        if syn.source in self._protected:
            return _PROTECTED_SOURCE
        if syn.source in self._subscribers:
            return _BETWEEN_SUBSCRIBERS
        return BOND


def _is_isatap(address: str) -> bool:
    if ":" not in address:
        return False
    return int.from_bytes(socket.inet_pton(socket.AF_INET6, address), "big") & _ISATAP_MASK == _ISATAP
