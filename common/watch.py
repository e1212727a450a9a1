# SPDX-License-Identifier: GPL-2.0-or-later
"""Hears of the kernel when links, addresses, routes or rules change (rtnetlink's multicast groups).

Rules too, since other programs may take out ours: systemd-networkd does so with all that it does not know, by default.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from common import netlink
from common.routing import PROTOCOL, rule_protocol

# RTMGRP_LINK, _IPV4_IFADDR, _IPV6_IFADDR in linux/rtnetlink.h
_LINKS: Final = 0x1 | 0x10 | 0x100
# RTMGRP_IPV4_ROUTE, _IPV4_RULE, _IPV6_ROUTE, and the bit of RTNLGRP_IPV6_RULE
_ROUTING: Final = 0x40 | 0x80 | 0x400 | 0x40000
_NEW_ROUTE, _DELETE_ROUTE, _DELETE_RULE = 24, 25, 33
_PROTOCOL: Final = 5  # where struct rtmsg has rtm_protocol


class Watch:
    """Hears when links, addresses, routes or rules of this network namespace change; what is new is to be looked up."""

    protocol = netlink.ROUTE
    groups = _LINKS | _ROUTING

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, self.protocol)
        self._socket.bind((0, self.groups))
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def changed(self) -> bool:
        """Whether anything has changed since the last call that matters()."""
        found = False
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True  # more than the socket could hold
            else:
                found |= any(self.matters(kind, body) for kind, _, _, body in netlink.messages(data))

    @staticmethod
    def matters(kind: int, body: bytes) -> bool:
        """Everything but routes that we have put in."""
        return kind != _NEW_ROUTE or not _is_ours(body)


class Guard(Watch):
    """Hears when rules or routes of ours are taken out.

    For a box that puts them in once. What else changes there, as many routes may all the time, is no news.
    """

    groups = _ROUTING

    @staticmethod
    def matters(kind: int, body: bytes) -> bool:
        return (kind == _DELETE_ROUTE and _is_ours(body)) or (kind == _DELETE_RULE and rule_protocol(body) == PROTOCOL)


def _is_ours(route: bytes) -> bool:
    return len(route) > _PROTOCOL and route[_PROTOCOL] == PROTOCOL
