# SPDX-License-Identifier: GPL-2.0-or-later
"""Our nftables table as the kernel tells of it: whether it is there, and that somebody has taken it out.

include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h; nf_tables_gettable() in net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from typing import Final

from common import netlink
from common.netlink import Netlink, attribute, attributes
from common.system import SystemLacks
from common.watch import Watch

NAME: Final = "hybrid_access"

_GET_TABLE, _DELETE_TABLE = (netlink.NFTABLES << 8 | message for message in (1, 2))
_TABLE_NAME: Final = 1  # NFTA_TABLE_NAME
_INET: Final = 1  # NFPROTO_INET
_NFGENMSG = struct.Struct(">BBH")  # family, version, resource
_CHANGES: Final = 1 << 6  # NFNLGRP_NFTABLES, which is 7, among the groups


def gone() -> bool:
    """Whether this network namespace lacks it. Raises SystemLacks if that cannot be found out."""
    try:
        with contextlib.closing(Netlink(netlink.NETFILTER)) as kernel:
            kernel.ask(_GET_TABLE, _NFGENMSG.pack(_INET, 0, 0) + attribute(_TABLE_NAME, NAME.encode() + b"\0"))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise SystemLacks(
                f"the kernel does not say whether our nftables table is there: {error.strerror}"
            ) from None
        return True
    return False


class TableGuard(Watch):
    """Hears when the table is taken out, be it to give way to another one at once."""

    protocol = netlink.NETFILTER
    groups = _CHANGES

    @staticmethod
    def matters(kind: int, body: bytes) -> bool:
        if kind != _DELETE_TABLE or body[0] != _INET:
            return False
        return netlink.text(attributes(body, _NFGENMSG.size).get(_TABLE_NAME, b"")) == NAME
