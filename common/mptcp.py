# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel tells of a Multipath TCP socket."""

from __future__ import annotations

import ctypes
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common import backlog
from common.transparent import MPTCP

_SOL_MPTCP: Final = 284
_MPTCP_INFO: Final = 1
_MPTCP_TCPINFO: Final = 2  # since 5.16
_FLAG_FALLBACK: Final = 1

# struct mptcp_info (include/uapi/linux/mptcp.h), up to mptcpi_snd_una: the same in every kernel that has it (5.16).
_INFO = struct.Struct("=6B2xIIQQ")

# tcpi_rtt and tcpi_total_retrans of struct tcp_info (include/uapi/linux/tcp.h), older than Multipath TCP.
_TCP_INFO = struct.Struct("=68xI28xI")
_BYTES_ACKED = struct.Struct("=120xQ")  # tcpi_bytes_acked, which counts the SYN

# struct mptcp_subflow_data, then as much of a struct tcp_info for each subflow as is asked for (linux/mptcp.h)
_SUBFLOW_DATA = struct.Struct("=4I")
# tcpi_state, _snd_mss, _unacked (segments), _rtt (us), _notsent_bytes, _min_rtt (us), _delivery_rate (bytes/s)
_PATH = struct.Struct("=B15xI4xI40xI72xII8xQ")
_MOST_SUBFLOWS: Final = 9
_ESTABLISHED: Final = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

_SETTINGS: Final = Path("/proc/sys/net/mptcp")
NEVER: Final = 128  # more than the kernel sends
_IN_TIME: Final = 3  # SYNs with the option, at most: one a second, then one without


def token(sock: socket.socket) -> int | None:
    """The token that names the connection to the path manager; None if the peer does not speak Multipath TCP."""
    info = _info(sock)
    return None if info is None else info[1]


def subflows(sock: socket.socket) -> int:
    """Subflows that carry the connection; 0 for plain TCP."""
    info = _info(sock)
    return 0 if info is None else info[0] + 1


def waiting(sock: socket.socket) -> tuple[int, int] | None:
    """Subflows, and bytes that the kernel has and the peer's Multipath TCP has not acknowledged; None for plain TCP."""
    info = _info(sock)
    return None if info is None else (info[0] + 1, info[2] - info[3])


def paths(sock: socket.socket) -> list[backlog.Path]:
    """The subflows that are up."""
    room = _SUBFLOW_DATA.size + _MOST_SUBFLOWS * _PATH.size
    told = ctypes.create_string_buffer(_SUBFLOW_DATA.pack(_SUBFLOW_DATA.size, 0, 0, _PATH.size), room)
    size = ctypes.c_uint32(room)
    if _LIBC.getsockopt(sock.fileno(), _SOL_MPTCP, _MPTCP_TCPINFO, told, ctypes.byref(size)):
        return []
    data = told.raw[_SUBFLOW_DATA.size : size.value]
    found = list(_PATH.iter_unpack(data[: len(data) - len(data) % _PATH.size]))
    return [
        backlog.Path(rate, rtt / 1e6, unacked * mss + unsent, srtt / 1e6)
        for state, mss, unacked, srtt, unsent, rtt, rate in found
        if state == _ESTABLISHED
    ]


@dataclass(frozen=True, slots=True)
class Delivery:
    """Bytes that the peer's TCP has acknowledged on the first subflow, and that its Multipath TCP has not on any."""

    acknowledged: int
    outstanding: int


def delivery(sock: socket.socket) -> Delivery | None:
    """How far the peer is with what was sent; None if the connection has fallen back to TCP."""
    info = _info(sock)
    if info is None:
        return None
    try:
        (acked,) = _BYTES_ACKED.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size))
    except OSError:
        acked = 0  # the first subflow is gone
    _, _, written, unacknowledged = info
    return Delivery(max(0, acked - 1), written - unacknowledged)


@dataclass(frozen=True, slots=True)
class Answer:
    """The SYN+ACK of a connection that became plain TCP.

    ``copies`` says how often the SYN went out again before; ``after`` how many seconds lie between the answer and the
    very SYN that it is for, which the timestamps tell (RFC 7323); 0 without them. ``anew``: no SYN of this socket had
    the option, those of an earlier one got no answer.
    """

    copies: int
    after: float
    anew: bool = False


def answer(sock: socket.socket) -> Answer:
    """To be asked before anything else is sent."""
    anew = sock.proto != MPTCP
    try:
        rtt, copies = _TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
    except OSError:
        return Answer(0, 0.0, anew)  # it is over already
    return Answer(copies, rtt / 1e6, anew)


def syns_with_the_option() -> int:
    """How many SYNs of a connection carry MP_CAPABLE until the kernel leaves it out, in this network namespace.

    mptcp_active_detect_blackhole() in net/mptcp/ctrl.c: a setting since 6.15, as many as its default since 6.12, which
    brought the detection and blackhole_timeout with it; kernels before that never leave it out.
    """
    setting = _SETTINGS / "syn_retrans_before_tcp_fallback"
    if setting.exists():
        return int(setting.read_text()) + 1
    return 3 if (_SETTINGS / "blackhole_timeout").exists() else NEVER


def falls_back() -> bool:
    """Whether the kernel goes on without MP_CAPABLE by itself before a client gets impatient."""
    return syns_with_the_option() <= _IN_TIME


def _info(sock: socket.socket) -> tuple[int, int, int, int] | None:
    """Subflows besides the first, token, next byte to write and first byte not acknowledged."""
    if sock.proto != MPTCP:
        return None
    try:
        told = sock.getsockopt(_SOL_MPTCP, _MPTCP_INFO, _INFO.size)
        extra, _, _, _, _, _, flags, token_, written, unacknowledged = _INFO.unpack(told)
    except OSError:
        # After a fallback, options go to the one TCP socket, which knows no SOL_MPTCP (net/mptcp/sockopt.c).
        return None
    return None if flags & _FLAG_FALLBACK else (extra, token_, written, unacknowledged)
