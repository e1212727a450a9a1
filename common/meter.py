# SPDX-License-Identifier: GPL-2.0-or-later
"""What has gone through a device so far, by the kernel's own counters (rtnetlink(7), if_link.h)."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from typing import Final

from common import netlink
from common.netlink import Netlink

_GET_STATISTICS: Final = 94  # RTM_GETSTATS
_REQUEST = struct.Struct("=BxxxII")  # struct if_stats_msg: family, device, which statistics
_LINK_64: Final = 1  # IFLA_STATS_LINK_64
_COUNTERS = struct.Struct("=4Q")  # struct rtnl_link_stats64 from its beginning


@dataclass(frozen=True, slots=True)
class Counters:
    """Since the device is there; frames with their link-layer headers."""

    packets_down: int
    packets_up: int
    bytes_down: int
    bytes_up: int


class Meter:
    """Two system calls a reading, so that it may be read some times a second."""

    def __init__(self) -> None:
        self._kernel = Netlink(netlink.ROUTE)

    def close(self) -> None:
        self._kernel.close()

    def read(self, device: int) -> Counters | None:
        """Of the device with this index; None if there is none. Raises OSError with what the kernel says otherwise."""
        try:
            answer = self._kernel.ask(_GET_STATISTICS, _REQUEST.pack(socket.AF_UNSPEC, device, 1 << (_LINK_64 - 1)))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        found = netlink.attributes(answer, _REQUEST.size)
        return Counters(*_COUNTERS.unpack_from(found[_LINK_64]))
