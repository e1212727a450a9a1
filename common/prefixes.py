# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of address prefixes, asked once for every SYN, and the prefixes where no host of the Internet is."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

Network = IPv4Network | IPv6Network

# Private networks, this host, its neighbours on a link, groups of hosts: the registries of special-purpose addresses
# (RFC 6890) less what is for documentation and tests.
SPECIAL: Final[tuple[Network, ...]] = tuple(
    ip_network(prefix)
    for prefix in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "::/8",  # unspecified, loopback, and IPv4 addresses in other words: mapped, compatible, NAT64 (RFC 6052, 8215)
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",  # site-local, which private networks may still use (RFC 3879)
        "ff00::/8",
    )
)


class Prefixes:
    """Whether an address (text, as in a parsed packet) lies in one of the prefixes."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._masks: dict[int, list[tuple[int, int]]] = {socket.AF_INET: [], socket.AF_INET6: []}
        for network in networks:
            family = socket.AF_INET if network.version == 4 else socket.AF_INET6
            self._masks[family].append((int(network.netmask), int(network.network_address)))

    def __contains__(self, address: str) -> bool:
        family, number = _read(address)
        return any([number & mask == network for mask, network in self._masks[family]])  # a list: they are few


@lru_cache(64)  # the addresses of one SYN are asked about several times
def _read(address: str) -> tuple[int, int]:
    """Family and number of an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, int.from_bytes(socket.inet_pton(family, address), "big")
