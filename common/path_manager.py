# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's Multipath TCP path manager: its events, subflows on demand, announced addresses.

Generic netlink family mptcp_pm (Documentation/netlink/specs/mptcp_pm.yaml, net/mptcp/pm_netlink.c, pm_userspace.c).
pyroute2 encodes and decodes the commands; events come to a socket of our own, because they must wake the loop, and are
read without it (common/path_events.py).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, genlmsg, nla
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from common.log import log
from common.path_events import Endpoint, JoinFailed, PathEvent, read
from common.system import SystemLacks, Unavailable

_FAMILY: Final = "mptcp_pm"
_EVENT_GROUP: Final = "mptcp_pm_events"
_NETLINK_GENERIC: Final = 16
_SO_RCVBUFFORCE: Final = 33
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NLMSG_ERROR: Final = 2
_NLA_F_NESTED: Final = 0x8000

_ADD_ADDR, _DEL_ADDR, _GET_ADDR, _SET_LIMITS, _GET_LIMITS, _SUBFLOW_CREATE = 1, 2, 3, 5, 6, 10
_FLAG_SIGNAL: Final = 1

_NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence, port


class _command(genlmsg):  # type: ignore[misc]
    """enum mptcp_pm_attrs with what the userspace path manager adds."""

    nla_map = (
        ("MPTCP_PM_ATTR_UNSPEC", "none"),
        ("MPTCP_PM_ATTR_ADDR", "end"),
        ("MPTCP_PM_ATTR_RCV_ADD_ADDRS", "uint32"),
        ("MPTCP_PM_ATTR_SUBFLOWS", "uint32"),
        ("MPTCP_PM_ATTR_TOKEN", "uint32"),
        ("MPTCP_PM_ATTR_LOC_ID", "uint8"),
        ("MPTCP_PM_ATTR_ADDR_REMOTE", "end"),
    )

    class end(nla):  # type: ignore[misc]
        nla_map = (
            ("MPTCP_PM_ADDR_ATTR_UNSPEC", "none"),
            ("MPTCP_PM_ADDR_ATTR_FAMILY", "uint16"),
            ("MPTCP_PM_ADDR_ATTR_ID", "uint8"),
            ("MPTCP_PM_ADDR_ATTR_ADDR4", "ip4addr"),
            ("MPTCP_PM_ADDR_ATTR_ADDR6", "ip6addr"),
            ("MPTCP_PM_ADDR_ATTR_PORT", "uint16"),
            ("MPTCP_PM_ADDR_ATTR_FLAGS", "uint32"),
            ("MPTCP_PM_ADDR_ATTR_IF_IDX", "int32"),
        )


class PathManager:
    """Orders to the userspace path manager and everything the kernel tells of connections in this namespace."""

    def __init__(self) -> None:
        """Raises SystemLacks if the kernel has no path manager to talk to."""
        self._id, group = _discover()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_GENERIC)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        self._socket.setblocking(False)
        self._orders: dict[int, tuple[int, int]] = {}  # sequence number -> token, local id: orders without an answer
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def join(self, token: int, local: Endpoint, remote: Endpoint) -> None:
        """Orders a subflow. The answer comes as an event: SubflowEstablished, SubflowClosed or JoinFailed."""
        self._sequence += 1
        message = _command()
        message["cmd"] = _SUBFLOW_CREATE
        message["version"] = 1
        message["attrs"] = [
            ("MPTCP_PM_ATTR_TOKEN", token),
            ("MPTCP_PM_ATTR_ADDR", _end(local), _NLA_F_NESTED),
            ("MPTCP_PM_ATTR_ADDR_REMOTE", _end(remote), _NLA_F_NESTED),
        ]
        message["header"]["type"] = self._id
        message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK
        message["header"]["sequence_number"] = self._sequence
        message.encode()
        self._orders[self._sequence] = (token, local.id)
        self._socket.send(message.data)

    def events(self) -> Iterator[PathEvent]:
        """What has happened since the last call."""
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                log.warning("path events were lost: some connections may stay without further subflows")
                continue
            yield from self._read(data)

    def _read(self, data: bytes) -> Iterator[PathEvent]:
        start = 0
        while start + _NLMSGHDR.size <= len(data):
            length, kind, _, sequence, _ = _NLMSGHDR.unpack_from(data, start)
            if length < _NLMSGHDR.size:
                return
            if kind == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", data, start + _NLMSGHDR.size)
                order = self._orders.pop(sequence, None)
                if code and order is not None:
                    yield JoinFailed(*order, -code)
            elif kind == self._id:
                event = read(data[start + _NLMSGHDR.size : start + length])
                if event is not None:
                    yield event
            start += (length + 3) & ~3


class PortWaits(Exception):
    """Nobody listens at the port, but connections that have just ended there are in TIME_WAIT."""


class Announcer:
    """The addresses that the kernel's own path manager announces to every peer, each with a port to join at."""

    def __init__(self) -> None:
        """Raises SystemLacks if the kernel has no path manager to talk to."""
        self._generic = _connect()

    def close(self) -> None:
        self._generic.close()

    def announce(self, endpoint: Endpoint) -> None:
        """Announces it and listens for joins there. One that is announced already stays: its subflows live by it.

        Raises PortWaits, or Unavailable if the port is taken.
        """
        if self._find([endpoint]):
            return
        address = _end(endpoint)
        address["attrs"].append(("MPTCP_PM_ADDR_ATTR_FLAGS", _FLAG_SIGNAL))
        try:
            self._request(_ADD_ADDR, ("MPTCP_PM_ATTR_ADDR", address, _NLA_F_NESTED))
        except NetlinkError as error:
            if error.code == errno.EADDRINUSE and not _listens(endpoint):
                raise PortWaits from None
            raise Unavailable(
                f"the kernel does not listen for subflows at {endpoint.address} port {endpoint.port}: "
                f"{os.strerror(error.code)}"
            ) from None

    def withdraw(self, endpoints: Iterable[Endpoint]) -> None:
        """Announces these no more; fine if that was not the case."""
        for found in self._find(endpoints):
            self._request(_DEL_ADDR, ("MPTCP_PM_ATTR_ADDR", _end(found), _NLA_F_NESTED))

    def _find(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        """Those of the kernel's endpoints that are at these addresses and ports."""
        wanted = {(endpoint.address, endpoint.port) for endpoint in endpoints}
        found = []
        for message in self._request(_GET_ADDR, flags=NLM_F_DUMP):
            address = message.get_attr("MPTCP_PM_ATTR_ADDR")
            if address is None:
                continue
            endpoint = Endpoint(
                address.get_attr("MPTCP_PM_ADDR_ATTR_ADDR4") or address.get_attr("MPTCP_PM_ADDR_ATTR_ADDR6"),
                address.get_attr("MPTCP_PM_ADDR_ATTR_PORT") or 0,
                address.get_attr("MPTCP_PM_ADDR_ATTR_ID"),
            )
            if (endpoint.address, endpoint.port) in wanted:
                found.append(endpoint)
        return found

    def allow(self, subflows: int) -> None:
        """How many subflows beyond its first a connection may have (the kernel's maximum is 8). Raises OSError."""
        try:
            self._request(_SET_LIMITS, ("MPTCP_PM_ATTR_SUBFLOWS", subflows))
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from None

    def allowed(self) -> int:
        (limits,) = self._request(_GET_LIMITS, flags=0)
        return int(limits.get_attr("MPTCP_PM_ATTR_SUBFLOWS"))

    def _request(self, command: int, *attributes: tuple[Any, ...], flags: int = NLM_F_ACK) -> list[Any]:
        message = _command()
        message["cmd"] = command
        message["version"] = 1
        message["attrs"] = list(attributes)
        return list(self._generic.nlm_request(message, msg_type=self._generic.prid, msg_flags=NLM_F_REQUEST | flags))


class SubflowLimit:
    """The limit as a setting, see common/settings.py."""

    name = "mptcp subflow limit"
    value = "8"
    why = "a router may have several further links"

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer

    def read(self) -> str:
        return str(self._announcer.allowed())

    def write(self, value: str) -> None:
        self._announcer.allow(int(value))


def _connect() -> GenericNetlinkSocket:
    generic = GenericNetlinkSocket()
    try:
        generic.bind(_FAMILY, _command)
    except NetlinkError:
        generic.close()
        raise SystemLacks("the kernel has no Multipath TCP path manager (CONFIG_MPTCP)") from None
    return generic


def _discover() -> tuple[int, int]:
    """Number of the family and of its group of events."""
    with _connect() as generic:
        return int(generic.prid), int(generic.mcast_groups[_EVENT_GROUP])


def _listens(endpoint: Endpoint) -> bool:
    """Whether a socket in this namespace listens there, or at all addresses (state 0A in /proc/net/tcp)."""
    packed = socket.inet_pton(endpoint.family, endpoint.address)
    words = [int.from_bytes(packed[start : start + 4], sys.byteorder) for start in range(0, len(packed), 4)]
    taken = {"".join(f"{word:08X}" for word in words), "0" * 8, "0" * 32}
    for table in (Path("/proc/thread-self/net/tcp"), Path("/proc/thread-self/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            local, _, state = line.split()[1:4]
            address, _, port = local.rpartition(":")
            if state == "0A" and address in taken and int(port, 16) == endpoint.port:
                return True
    return False


def _end(endpoint: Endpoint) -> dict[str, Any]:
    attributes: list[tuple[str, Any]] = [
        ("MPTCP_PM_ADDR_ATTR_FAMILY", int(endpoint.family)),
        ("MPTCP_PM_ADDR_ATTR_ID", endpoint.id),
        (f"MPTCP_PM_ADDR_ATTR_ADDR{'6' if endpoint.family == socket.AF_INET6 else '4'}", endpoint.address),
    ]
    if endpoint.port:
        attributes.append(("MPTCP_PM_ADDR_ATTR_PORT", endpoint.port))
    if endpoint.device:
        attributes.append(("MPTCP_PM_ADDR_ATTR_IF_IDX", endpoint.device))
    return {"attrs": attributes}
