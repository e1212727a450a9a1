# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel tells of a Multipath TCP socket."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.transparent import MPTCP

_SOL_MPTCP: Final = 284
_MPTCP_INFO: Final = 1
_FLAG_FALLBACK: Final = 1

# struct mptcp_info (include/uapi/linux/mptcp.h), its first 16 bytes: the same in every kernel that has it (5.16).
_INFO = struct.Struct("=6B2xII")

# tcpi_rtt and tcpi_total_retrans of struct tcp_info (include/uapi/linux/tcp.h), older than Multipath TCP.
_TCP_INFO = struct.Struct("=68xI28xI")

_SETTINGS: Final = Path("/proc/sys/net/mptcp")
_NEVER: Final = 128  # more than the kernel sends


def token(sock: socket.socket) -> int | None:
    """The token that names the connection to the path manager; None if the peer does not speak Multipath TCP."""
    info = _info(sock)
    return None if info is None else info[1]


def subflows(sock: socket.socket) -> int:
    """Subflows that carry the connection; 0 for plain TCP."""
    info = _info(sock)
    return 0 if info is None else info[0] + 1


@dataclass(frozen=True, slots=True)
class Answer:
    """The SYN+ACK of a connection that became plain TCP.

    ``copies`` says how often the SYN went out again before; ``after`` how many seconds lie between the answer and the
    very SYN that it is for, which the timestamps tell (RFC 7323); 0 without them.
    """

    copies: int
    after: float


def answer(sock: socket.socket) -> Answer:
    """To be asked before anything else is sent."""
    try:
        rtt, copies = _TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
    except OSError:
        return Answer(0, 0.0)  # it is over already
    return Answer(copies, rtt / 1e6)


def syns_with_the_option() -> int:
    """How many SYNs of a connection carry MP_CAPABLE until the kernel leaves it out, in this network namespace.

    mptcp_active_detect_blackhole() in net/mptcp/ctrl.c: a setting since 6.15, as many as its default since 6.12, which
    brought the detection and blackhole_timeout with it; kernels before that never leave it out.
    """
    setting = _SETTINGS / "syn_retrans_before_tcp_fallback"
    if setting.exists():
        return int(setting.read_text()) + 1
    return 3 if (_SETTINGS / "blackhole_timeout").exists() else _NEVER


def _info(sock: socket.socket) -> tuple[int, int] | None:
    if sock.proto != MPTCP:
        return None
    try:
        extra, _, _, _, _, _, flags, token_ = _INFO.unpack(sock.getsockopt(_SOL_MPTCP, _MPTCP_INFO, _INFO.size))
    except OSError:
        # After a fallback, options go to the one TCP socket, which knows no SOL_MPTCP (net/mptcp/sockopt.c).
        return None
    return None if flags & _FLAG_FALLBACK else (extra, token_)
