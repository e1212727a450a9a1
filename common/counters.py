# SPDX-License-Identifier: GPL-2.0-or-later
"""The named counters of an nftables table.

Asked of the kernel itself (include/uapi/linux/netfilter/nf_tables.h, nf_tables_dump_obj() in net/netfilter/
nf_tables_api.c): ``nft list counters`` fetches all sets with every element, for seconds where there are many.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from common.nfqueue import NETLINK_NETFILTER

_SUBSYS_NFTABLES: Final = 10
_NEW_OBJECT: Final = _SUBSYS_NFTABLES << 8 | 18
_GET_OBJECT: Final = _SUBSYS_NFTABLES << 8 | 19
_OBJECT_TABLE, _OBJECT_NAME, _OBJECT_TYPE, _OBJECT_DATA = 1, 2, 3, 4  # enum nft_object_attributes
_OBJECT_COUNTER: Final = 1
_COUNTER_PACKETS: Final = 2
_INET: Final = 1  # NFPROTO_INET

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST: Final = 1
_NLM_F_DUMP: Final = 0x300

_NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_NFGENMSG = struct.Struct(">BBH")  # family, version, resource
_ATTR = struct.Struct("=HH")  # length, type; the host's byte order
_HEADERS: Final = _NLMSGHDR.size + _NFGENMSG.size
_BUFFER: Final = 64 * 1024  # more than the kernel puts into one message of a dump


def packets(table: str) -> dict[str, int]:
    """What each named counter of an ``inet`` table has counted; nothing if there is no such table. Raises OSError."""
    wanted = _attribute(_OBJECT_TABLE, table.encode() + b"\0")
    wanted += _attribute(_OBJECT_TYPE, struct.pack(">I", _OBJECT_COUNTER))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as kernel:
        kernel.bind((0, 0))
        kernel.send(
            _NLMSGHDR.pack(_HEADERS + len(wanted), _GET_OBJECT, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
            + _NFGENMSG.pack(_INET, 0, 0)
            + wanted
        )
        found: dict[str, int] = {}
        while True:
            for kind, body in _messages(kernel.recv(_BUFFER)):
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    raise OSError(-code, os.strerror(-code))
                if kind == _NEW_OBJECT:
                    counter = _attributes(body[_NFGENMSG.size :])
                    (count,) = struct.unpack(">Q", _attributes(counter[_OBJECT_DATA])[_COUNTER_PACKETS])
                    found[counter[_OBJECT_NAME].rstrip(b"\0").decode()] = count


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start + _NLMSGHDR.size <= len(data):
        length, kind, _, _, _ = _NLMSGHDR.unpack_from(data, start)
        yield kind, data[start + _NLMSGHDR.size : start + length]
        start += (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTR.pack(_ATTR.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    start = 0
    while start + _ATTR.size <= len(data):
        length, kind = _ATTR.unpack_from(data, start)
        found[kind & 0x3FFF] = data[start + _ATTR.size : start + length]
        start += (length + 3) & ~3
    return found
