# SPDX-License-Identifier: GPL-2.0-or-later
"""What TCP socket the kernel has for an address pair, whoever's it is: sock_diag(7), for what no call on sockets tells.

connect() says the same (EADDRNOTAVAIL) of a pair in TIME_WAIT and of one whose last connection still has bytes to send,
long after its process has closed it.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from common.transparent import Address

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1

_NLMSGHDR: Final = struct.Struct("=IHHII")
# struct inet_diag_req_v2 with its inet_diag_sockid (include/uapi/linux/inet_diag.h): any device, any cookie
_REQUEST: Final = struct.Struct("=BBBxI2s2s16s16sIII")
_ANY_STATE: Final = 0xFFFFFFFF
_NO_COOKIE: Final = (0xFFFFFFFF, 0xFFFFFFFF)
_STATE: Final = _NLMSGHDR.size + 1  # where the answer, an inet_diag_msg, has it
_LONGEST: Final = 4096

# include/net/tcp_states.h
_TIME_WAIT: Final = 6
_CLOSE: Final = 7
_LISTEN: Final = 10


def is_alive(local: Address, remote: Address) -> bool:
    """Whether there is a connection from ``local`` to ``remote`` that has not come to its end, TIME_WAIT.

    False where the kernel cannot tell (without CONFIG_INET_TCP_DIAG), or has nothing left to tell it with.
    """
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    ports = (local[1].to_bytes(2, "big"), remote[1].to_bytes(2, "big"))
    addresses = (socket.inet_pton(family, local[0]), socket.inet_pton(family, remote[0]))
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ANY_STATE, *ports, *addresses, 0, *_NO_COOKIE)
    header = _NLMSGHDR.pack(_NLMSGHDR.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_SOCK_DIAG) as asking:
            asking.send(header + request)
            answer = asking.recv(_LONGEST)  # the kernel has answered before send() returned
    except OSError:
        return False
    _, kind, _, _, _ = _NLMSGHDR.unpack_from(answer)
    return kind == _SOCK_DIAG_BY_FAMILY and answer[_STATE] not in (_TIME_WAIT, _CLOSE, _LISTEN)
