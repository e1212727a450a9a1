# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets with other hosts' addresses: the listener that TPROXY feeds, and the server leg.

Every leg starts with SO_LINGER {1, 0}: should the process die, the kernel closes its sockets, and a linger time
of 0 makes that an RST (tcp_close() in net/ipv4/tcp.c). Without it an idle connection of a killed relay would
end with a clean FIN, and its peer take half a file for the whole. A normal end takes the option back first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import Final

from common import marks

TCP: Final = socket.IPPROTO_TCP
MPTCP: Final = 262  # IPPROTO_MPTCP, include/uapi/linux/in.h

_IP_TRANSPARENT: Final = 19
_IPV6_TRANSPARENT: Final = 75
_IP_BIND_ADDRESS_NO_PORT: Final = 24
_TCP_NOTSENT_LOWAT: Final = 25
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_LINGER_OFF: Final = struct.pack("ii", 0, 0)

# Bytes that may wait unsent in a leg's socket. Without a bound a relay takes from a fast sender as much as its
# buffers hold (measured: 40 MB for a 15 Mbit/s upload) and every new connection queues behind it.
UNSENT: Final = 256 * 1024

# Bytes that a flow may hold in one direction, unless the configuration says otherwise.
FLOW_BUFFER: Final = 16 * 1024 * 1024

# Shares of it, as the kernel counts, with its own overhead, for each kind of leg. What remains is for the relay's hands
# (common/relay.py), and for the last packet in each buffer, which may exceed it.
#
# A Multipath TCP leg must have room for all that its peer, with the same option, may send before it is acknowledged:
# what has come over one access and must wait for what comes over the other counts here. So that takes what all accesses
# carry together in a round trip of the slowest one, with its queue, and somewhat more than half of the room is payload.
# Once that fills the buffer, the kernel moves nothing more from the subflows, not even what everything waits for
# (net/mptcp/protocol.c up to 6.18), and the connection stands still for good: in 1 of 8 two-way transfers, with sizes
# that the kernel chose (128 KiB and up to receive, up to 4 MiB to send).
#
# To send, a Multipath TCP leg has what the kernel gives it, which grows with what its paths carry; the peer's room to
# receive is the limit. A fixed size is that of every subflow, and the first one fills it before another has joined: of
# 1 MB, 20 Mbit/s and 2 MiB, nothing was left for LTE. With less than the default it is fixed all the same, to keep the
# promise.
_RECEIVED: Final = {MPTCP: 5 / 8, TCP: 2 / 8}
_SENT: Final = {MPTCP: 2 / 8, TCP: 1 / 8}
_LAST: Final = 64 * 1024

BACKLOG: Final = 4096  # connections that may wait at a listener, half-open ones too

_LOOPBACK: Final = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}

Address = tuple[str, int]


def listener(family: int, port: int, protocol: int, mark: int = 0, flow_buffer: int = FLOW_BUFFER) -> socket.socket:
    """A listener for connections that TPROXY sends to the loopback address and ``port``; nobody else can reach it.

    What is set here, each accepted socket inherits, ``mark`` too, which is that of its packets. ``flow_buffer`` is in
    bytes, see above.
    Raises OSError (EADDRINUSE, EPERM, EPROTONOSUPPORT).
    """
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has a listener of its own; but a connection that is for IPv6 only gets no subflow over IPv4
            # (mptcp_pm_addr_families_match(), net/mptcp/pm.c).
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        _prepare(sock, family, protocol, flow_buffer)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sock.bind((_LOOPBACK[socket.AddressFamily(family)], port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def server_leg(
    family: int,
    protocol: int,
    source: Address,
    destination: Address,
    mark: int,
    dscp: int = 0,
    flow_buffer: int = FLOW_BUFFER,
) -> socket.socket:
    """A socket connecting from ``source``, anybody's address, to ``destination``; the kernel chooses for port 0.

    ``dscp`` (0 ... 63) is of all its packets, on each subflow; ``flow_buffer`` is in bytes, see above.
    Raises OSError if the connection cannot even be tried: EADDRNOTAVAIL (the address pair is in use or was a
    moment ago), EMFILE, ENETUNREACH, ...
    """
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, protocol)
    try:
        _prepare(sock, family, protocol, flow_buffer)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, marks.with_dscp(mark, dscp))
        if dscp:
            # For subflows over IPv4, which a connection over IPv6 may have too; for others there is the mark.
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
        if source[1]:
            # The same client port may lead to several servers.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            # The port is chosen at connect(), where the whole address pair must be unique, not the port alone.
            _set_if_there_is(sock, socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind(source)
        error = sock.connect_ex(destination)
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))
    except OSError:
        sock.close()
        raise
    return sock


def bound(sock: socket.socket, size: int) -> None:
    """So many bytes may be on their way, unsent or unacknowledged, on all subflows together."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size // 2)  # which the kernel doubles


def close_in_order(sock: socket.socket) -> None:
    """Closes a leg that has ended both ways; what it still has to send, the kernel goes on sending."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    sock.close()


def _prepare(sock: socket.socket, family: int, protocol: int, flow_buffer: int) -> None:
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Whoever sends has decided on its segments; held back a second time they only arrive later.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _set_if_there_is(sock, socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT)
    # The kernel doubles both numbers.
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, int(flow_buffer * _RECEIVED[protocol] - _LAST) // 2)
    if protocol == TCP or flow_buffer < FLOW_BUFFER:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, int(flow_buffer * _SENT[protocol] - _LAST) // 2)


def _set_if_there_is(sock: socket.socket, level: int, option: int, value: int) -> None:
    """For options that Multipath TCP sockets have had since 6.8 or 6.10 only: without them it goes on, less well."""
    try:
        sock.setsockopt(level, option, value)
    except OSError as error:
        if error.errno not in (errno.ENOPROTOOPT, errno.EOPNOTSUPP):
            raise
