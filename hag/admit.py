# SPDX-License-Identifier: GPL-2.0-or-later
"""For whom, and to where, the HAG opens connections: nobody but subscribers, never to the HAG or what it protects."""

from __future__ import annotations

from ipaddress import ip_network

from common.config import HagConfig
from common.gate import BOND, Decision
from common.packet import Segment
from common.prefixes import Prefixes

# A connection that the HAG opens has the HAG's freedom to reach things. Addresses that stand for this host, for its
# neighbours on a link, or for another address inside them are therefore never opened, in whatever spelling they come.
_NEVER = Prefixes(
    ip_network(prefix)
    for prefix in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/8",  # unspecified, loopback, IPv4-mapped and -compatible (RFC 4291)
        "64:ff9b::/96",  # NAT64 (RFC 6052)
        "64:ff9b:1::/48",  # NAT64 of local use (RFC 8215)
        "2002::/16",  # 6to4 (RFC 3056)
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)

_NO_OPTION = Decision("no MP_CAPABLE")
_NO_SUBSCRIBER = Decision("not a subscriber")
_PROTECTED = Decision("protected destination")


class Admission:
    """The decision on each new SYN: bond, or pass on without MP_CAPABLE and why."""

    def __init__(self, config: HagConfig) -> None:
        self._subscribers = Prefixes(config.subscribers)
        self._protected = Prefixes(config.protect)

    def decide(self, syn: Segment, _device: int = 0) -> Decision:
        if syn.mp_capable is None or syn.mp_capable.version != 1:
            return _NO_OPTION  # or one that is not what our kernel speaks, RFC 8684
        if syn.source not in self._subscribers:
            return _NO_SUBSCRIBER
        if syn.destination in _NEVER or syn.destination in self._protected:
            return _PROTECTED
        return BOND
