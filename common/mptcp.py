# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel tells of a Multipath TCP socket."""

from __future__ import annotations

import socket
import struct
from typing import Final

from common.transparent import MPTCP

_SOL_MPTCP: Final = 284
_MPTCP_INFO: Final = 1
_FLAG_FALLBACK: Final = 1

# struct mptcp_info (include/uapi/linux/mptcp.h), its first 16 bytes: the same in every kernel that has it (5.16).
_INFO = struct.Struct("=6B2xII")


def token(sock: socket.socket) -> int | None:
    """The token that names the connection to the path manager; None if the peer does not speak Multipath TCP."""
    info = _info(sock)
    return None if info is None else info[1]


def subflows(sock: socket.socket) -> int:
    """Subflows that carry the connection; 0 for plain TCP."""
    info = _info(sock)
    return 0 if info is None else info[0] + 1


def _info(sock: socket.socket) -> tuple[int, int] | None:
    if sock.proto != MPTCP:
        return None
    try:
        extra, _, _, _, _, _, flags, token_ = _INFO.unpack(sock.getsockopt(_SOL_MPTCP, _MPTCP_INFO, _INFO.size))
    except OSError:
        # After a fallback, options go to the one TCP socket, which knows no SOL_MPTCP (net/mptcp/sockopt.c).
        return None
    return None if flags & _FLAG_FALLBACK else (extra, token_)
