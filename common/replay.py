# SPDX-License-Identifier: GPL-2.0-or-later
"""SYNs that begin again on this host: a copy goes out with a mark and comes back in over the loopback device.

A SYN that waits where the box forwards packets has been routed to somebody else, and no verdict turns it round. So it
is dropped there once it is due, and its copy meets the rules of deliver.nft, which know the mark. On its way out, the
policy rule for the mark (common/routing.py) sends it to this host; what comes back over loopback keeps the route that
it had, so it does not matter whose its source address is (net/ipv4/raw.c, net/ipv6/raw.c, net/ipv4/ip_input.c).
"""

from __future__ import annotations

import socket
import struct
from typing import Final

_IPV6_HDRINCL: Final = 36


class Replay:
    """Raw sockets, one for each family of ``families``, whose packets have ``mark``. Raises OSError (EPERM)."""

    def __init__(self, mark: int, families: tuple[int, ...]) -> None:
        self._sockets: dict[int, socket.socket] = {}
        try:
            for family in families:
                sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
                self._sockets[family] = sock
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()

    def descriptors(self) -> set[int]:
        return {sock.fileno() for sock in self._sockets.values()}

    def send(self, family: int, destination: str, packet: bytes) -> None:
        """Raises OSError if the kernel does not take it (ENOBUFS, EPERM: somebody's rule for outgoing packets)."""
        self._sockets[family].sendto(packet, (destination, 0))
