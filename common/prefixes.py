# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of address prefixes, asked once for every SYN."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


class Prefixes:
    """Whether an address (text, as in a parsed packet) lies in one of the prefixes."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._masks: dict[int, list[tuple[int, int]]] = {socket.AF_INET: [], socket.AF_INET6: []}
        for network in networks:
            family = socket.AF_INET if network.version == 4 else socket.AF_INET6
            self._masks[family].append((int(network.netmask), int(network.network_address)))

    def __contains__(self, address: str) -> bool:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        number = int.from_bytes(socket.inet_pton(family, address), "big")
        return any(number & mask == network for mask, network in self._masks[family])
