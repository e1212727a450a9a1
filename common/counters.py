# SPDX-License-Identifier: GPL-2.0-or-later
"""The named counters of an nftables table.

Asked of the kernel itself (include/uapi/linux/netfilter/nf_tables.h, nf_tables_dump_obj() in net/netfilter/
nf_tables_api.c): ``nft list counters`` fetches all sets with every element, for seconds where there are many.
"""

from __future__ import annotations

import contextlib
import struct
from typing import Final

from common import netlink
from common.netlink import Netlink, attribute, attributes

_GET_OBJECT: Final = netlink.NFTABLES << 8 | 19
_OBJECT_TABLE, _OBJECT_NAME, _OBJECT_TYPE, _OBJECT_DATA = 1, 2, 3, 4  # enum nft_object_attributes
_OBJECT_COUNTER: Final = 1
_COUNTER_PACKETS: Final = 2
_INET: Final = 1  # NFPROTO_INET

_NFGENMSG = struct.Struct(">BBH")  # family, version, resource


def packets(table: str) -> dict[str, int]:
    """What each named counter of an ``inet`` table has counted; nothing if there is no such table. Raises OSError."""
    wanted = attribute(_OBJECT_TABLE, table.encode() + b"\0")
    wanted += attribute(_OBJECT_TYPE, struct.pack(">I", _OBJECT_COUNTER))
    with contextlib.closing(Netlink(netlink.NETFILTER)) as kernel:
        told = kernel.dump(_GET_OBJECT, _NFGENMSG.pack(_INET, 0, 0) + wanted)
    found = {}
    for counter in (attributes(body, _NFGENMSG.size) for body in told):
        (count,) = struct.unpack(">Q", attributes(counter[_OBJECT_DATA])[_COUNTER_PACKETS])
        found[netlink.text(counter[_OBJECT_NAME])] = count
    return found
