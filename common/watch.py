# SPDX-License-Identifier: GPL-2.0-or-later
"""Hears of the kernel when links, addresses and routes change (rtnetlink's multicast groups)."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from common.routing import PROTOCOL

# What a watch hears of: links, addresses, routes (RTMGRP_* in linux/rtnetlink.h).
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
_RTM_NEWROUTE: Final = 24
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_ROUTE_PROTOCOL: Final = _HEADER.size + 5  # where struct rtmsg has rtm_protocol


class Watch:
    """Hears when links, addresses or routes of this network namespace change; what is new has to be looked up."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
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
                found |= _concerns_others(self._socket.recv(1 << 16))
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True  # more than the socket could hold


def _concerns_others(data: bytes) -> bool:
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, start)
        ours = kind == _RTM_NEWROUTE and length > _ROUTE_PROTOCOL and data[start + _ROUTE_PROTOCOL] == PROTOCOL
        if not ours:
            return True
        start += max(length + 3 & ~3, _HEADER.size)
    return False
