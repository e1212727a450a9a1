# SPDX-License-Identifier: GPL-2.0-or-later
"""Hears of the kernel when links, addresses, routes and rules change (rtnetlink's multicast groups).

Rules too, since other programs may take out ours: systemd-networkd does so with all that it does not know, by default.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from common import netlink
from common.routing import PROTOCOL

# RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, and the bit of RTNLGRP_IPV6_RULE, in
# linux/rtnetlink.h
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000
_NEW_ROUTE: Final = 24
_PROTOCOL: Final = 5  # where struct rtmsg has rtm_protocol


class Watch:
    """Hears when links, addresses, routes or rules of this network namespace change; what is new is to be looked up."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.ROUTE)
        self._socket.bind((0, _GROUPS))
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def changed(self) -> bool:
        """Whether anything has changed since the last call, but for routes that we have put in."""
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
                found |= any(not _ours(kind, body) for kind, _, _, body in netlink.messages(data))


def _ours(kind: int, body: bytes) -> bool:
    return kind == _NEW_ROUTE and len(body) > _PROTOCOL and body[_PROTOCOL] == PROTOCOL
