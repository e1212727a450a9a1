# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to the paths of Multipath TCP connections, as the kernel tells it. A token names a connection.

Every connection, however short, is told of four times. So the messages are read with struct: pyroute2, which knows any
attribute of any family, takes twenty times as long.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from typing import Final

# enum mptcp_event_type and enum mptcp_event_attr, include/uapi/linux/mptcp_pm.h
_CREATED, _ESTABLISHED, _CLOSED, _ANNOUNCED, _SUB_ESTABLISHED, _SUB_CLOSED = 1, 2, 3, 6, 10, 11
_TOKEN, _FAMILY, _LOC_ID, _REM_ID, _SADDR4, _SADDR6, _DADDR4, _DADDR6, _SPORT, _DPORT = range(1, 11)
_ERROR, _IF_IDX = 12, 15

# What is wanted of short connections' events comes first: the attribute after which no more is read (mptcp_event() and
# mptcp_event_created() in net/mptcp/pm_netlink.c)
_ENOUGH: Final = {_CREATED: _TOKEN, _CLOSED: _TOKEN, _ESTABLISHED: _FAMILY}

_ATTRIBUTE = struct.Struct("=HH")  # length with this head, type
_ATTRIBUTES: Final = 4  # where they begin, after struct genlmsghdr
_TYPE: Final = 0x3FFF  # without the flags


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a subflow. ``id`` is its MPTCP address id, ``device`` the ifindex to use or 0."""

    address: str
    port: int = 0
    id: int = 0
    device: int = 0

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


@dataclass(frozen=True, slots=True)
class Created:
    """A connection begins: its first SYN is answered."""

    token: int


@dataclass(frozen=True, slots=True)
class Established:
    """The connection is complete for the path manager: subflows may be added.

    One of family AF_INET6 takes subflows of both families, one of AF_INET its own only. In ``told`` ends() finds
    those of its first subflow: few want to know, and there may be thousands.
    """

    token: int
    family: int
    told: bytes = b""


@dataclass(frozen=True, slots=True)
class Closed:
    token: int


@dataclass(frozen=True, slots=True)
class Announced:
    """The peer says that it can be reached at this address (ADD_ADDR)."""

    token: int
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class SubflowEstablished:
    token: int
    local: Endpoint
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class SubflowClosed:
    """``error`` is the errno it ended with, 0 for an orderly end."""

    token: int
    local: Endpoint
    remote: Endpoint
    error: int


@dataclass(frozen=True, slots=True)
class JoinFailed:
    """The kernel did not take the order for the subflow with this local address id; ``error`` is an errno value."""

    token: int
    id: int
    error: int


@dataclass(frozen=True, slots=True)
class EventsLost:
    """Anything of the above may have happened, to any connection."""


PathEvent = Created | Established | Closed | Announced | SubflowEstablished | SubflowClosed | JoinFailed | EventsLost


def read(message: bytes) -> PathEvent | None:
    """The event in a message of the family mptcp_pm, from its struct genlmsghdr on; None if it is none of the above."""
    kind = message[0]
    told = _attributes(message, _ENOUGH.get(kind))
    if _TOKEN not in told:
        return None  # listeners come and go without a connection
    token = _number(told, _TOKEN)
    if kind == _CREATED:
        return Created(token)
    if kind == _ESTABLISHED:
        return Established(token, _number(told, _FAMILY), message)
    if kind == _CLOSED:
        return Closed(token)
    if kind == _ANNOUNCED:
        return Announced(token, _remote(told))
    if kind == _SUB_ESTABLISHED:
        return SubflowEstablished(token, _local(told), _remote(told))
    if kind == _SUB_CLOSED:
        return SubflowClosed(token, _local(told), _remote(told), _number(told, _ERROR))
    return None


def ends(message: bytes) -> tuple[Endpoint, Endpoint]:
    """The local and the remote one in a message about a subflow."""
    told = _attributes(message, None)
    return _local(told), _remote(told)


def _attributes(message: bytes, enough: int | None) -> dict[int, bytes]:
    """Values by type, up to that of type ``enough``."""
    found = {}
    start, end = _ATTRIBUTES, len(message)
    while start + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(message, start)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE] = message[start + _ATTRIBUTE.size : start + length]
        if kind == enough:
            break
        start += (length + 3) & ~3
    return found


def _number(told: dict[int, bytes], kind: int) -> int:
    """In the host's byte order; 0 if it is not there."""
    return int.from_bytes(told.get(kind, b""), sys.byteorder)


def _port(told: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(told.get(kind, b""), "big")


def _address(told: dict[int, bytes], ipv4: int, ipv6: int) -> str:
    if ipv4 in told:
        return socket.inet_ntop(socket.AF_INET, told[ipv4])
    return socket.inet_ntop(socket.AF_INET6, told[ipv6]) if ipv6 in told else ""


def _local(told: dict[int, bytes]) -> Endpoint:
    return Endpoint(
        _address(told, _SADDR4, _SADDR6), _port(told, _SPORT), _number(told, _LOC_ID), _number(told, _IF_IDX)
    )


def _remote(told: dict[int, bytes]) -> Endpoint:
    return Endpoint(_address(told, _DADDR4, _DADDR6), _port(told, _DPORT), _number(told, _REM_ID))
