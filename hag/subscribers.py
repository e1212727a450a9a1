# SPDX-License-Identifier: GPL-2.0-or-later
"""Who a subscriber is: one IPv4 address (the router's, which does NAT), or the IPv6 prefix delegated to the router."""

from __future__ import annotations

import socket


class Subscribers:
    """Tells subscribers apart by their connections' addresses."""

    def __init__(self, delegated: int) -> None:
        """``delegated`` is the length of an IPv6 subscriber's prefix (RFC 8415), in bits."""
        self._host_bits = 128 - delegated

    def of(self, address: str) -> str | int:
        """Something that is equal for the addresses (text) of one subscriber, and for no others."""
        if ":" not in address:
            return address
        return int.from_bytes(socket.inet_pton(socket.AF_INET6, address), "big") >> self._host_bits

    def name(self, address: str) -> str:
        """The same for people: the IPv4 address, or the IPv6 prefix."""
        if ":" not in address:
            return address
        subscriber = int(self.of(address)) << self._host_bits
        return f"{socket.inet_ntop(socket.AF_INET6, subscriber.to_bytes(16, 'big'))}/{128 - self._host_bits}"
