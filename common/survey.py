# SPDX-License-Identifier: GPL-2.0-or-later
"""Which Multipath TCP connections there are, and their subflows: sock_diag(7), for when path events were lost.

struct inet_diag_req_v2, inet_diag_msg (include/uapi/linux/inet_diag.h), mptcp_info, and the attributes of a subflow
(include/uapi/linux/mptcp.h, net/mptcp/diag.c).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

from common import netlink
from common.netlink import U8, U32, Attributes, Netlink, attribute
from common.path_events import Endpoint
from common.transparent import MPTCP, TCP

Ends = tuple[Endpoint, Endpoint]  # of a subflow: ours, the peer's

_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST: Final = struct.Struct("=BBBxI48x")  # family, protocol, extensions, states; of any socket
_MESSAGE: Final = struct.Struct("=4x2s2s16s16sI28x")  # ports, addresses, device
_REQUEST_PROTOCOL: Final = 3  # INET_DIAG_REQ_PROTOCOL, for one that needs more than a byte
_INFO, _ULP_INFO = 2, 19  # INET_DIAG_...
_WITH_INFO: Final = 1 << (_INFO - 1)  # without which the kernel gives neither
_ULP_MPTCP: Final = 3  # INET_ULP_INFO_MPTCP
_TOKEN, _ID_REMOTE, _ID_LOCAL = 2, 9, 10  # MPTCP_SUBFLOW_ATTR_TOKEN_LOC, ...
_INFO_TOKEN: Final = struct.Struct("=12xI")  # of struct mptcp_info
_ANY_STATE: Final = 0xFFFFFFFF
_ALIVE: Final = _ANY_STATE & ~(1 << 6 | 1 << 7 | 1 << 10 | 1 << 12)  # not TIME_WAIT, CLOSE, LISTEN, NEW_SYN_RECV


def survey() -> dict[int, list[Ends]] | None:
    """The subflows of each connection by its token, those that are still connecting too.

    None if the kernel cannot tell (without CONFIG_INET_MPTCP_DIAG).
    """
    kernel = Netlink(_SOCK_DIAG)
    try:
        found: dict[int, list[Ends]] = {token: [] for token in _tokens(kernel)}
        for token, ends in _subflows(kernel):
            if token in found:
                found[token].append(ends)
    except OSError:
        return None
    finally:
        kernel.close()
    return found


def _tokens(kernel: Netlink) -> Iterator[int]:
    for family in (socket.AF_INET, socket.AF_INET6):
        protocol = attribute(_REQUEST_PROTOCOL, U32.pack(MPTCP))
        for told in kernel.dump(_BY_FAMILY, _REQUEST.pack(family, 0, _WITH_INFO, _ANY_STATE) + protocol):
            info = netlink.attributes(told, _MESSAGE.size).get(_INFO, b"")
            if len(info) >= _INFO_TOKEN.size:
                yield _INFO_TOKEN.unpack_from(info)[0]


def _subflows(kernel: Netlink) -> Iterator[tuple[int, Ends]]:
    for family in (socket.AF_INET, socket.AF_INET6):
        for told in kernel.dump(_BY_FAMILY, _REQUEST.pack(family, TCP, _WITH_INFO, _ALIVE)):
            ulp = netlink.attributes(netlink.attributes(told, _MESSAGE.size).get(_ULP_INFO, b""))
            subflow = netlink.attributes(ulp.get(_ULP_MPTCP, b""))
            if _TOKEN in subflow:
                yield U32.unpack(subflow[_TOKEN])[0], _ends(family, told, subflow)


def _ends(family: int, told: bytes, subflow: Attributes) -> Ends:
    sport, dport, source, destination, device = _MESSAGE.unpack_from(told)
    length = 4 if family == socket.AF_INET else 16

    def end(address: bytes, port: bytes, id: int, device: int = 0) -> Endpoint:
        number = U8.unpack(subflow[id])[0] if id in subflow else 0
        return Endpoint(socket.inet_ntop(family, address[:length]), int.from_bytes(port, "big"), number, device)

    return end(source, sport, _ID_LOCAL, device), end(destination, dport, _ID_REMOTE)
