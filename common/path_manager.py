# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's Multipath TCP path manager: its events, subflows on demand, announced addresses.

Generic netlink family mptcp_pm (Documentation/netlink/specs/mptcp_pm.yaml, net/mptcp/pm_netlink.c, pm_userspace.c).
Orders and events have a socket of their own, which wakes the loop; common/path_events.py reads the events.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from common import netlink
from common.netlink import GENERIC_HEADER, U8, U16, U32, Attributes, Netlink, attribute, attributes, nested
from common.path_events import Endpoint, EventsLost, JoinFailed, PathEvent, read
from common.system import SystemLacks, Unavailable

_FAMILY: Final = "mptcp_pm"
_EVENT_GROUP: Final = "mptcp_pm_events"
_VERSION: Final = 1
_SO_RCVBUFFORCE: Final = 33
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1

_ADD_ADDR, _DEL_ADDR, _GET_ADDR, _SET_LIMITS, _GET_LIMITS, _SET_FLAGS = 1, 2, 3, 5, 6, 7
_REMOVE, _SUBFLOW_CREATE, _SUBFLOW_DESTROY = 9, 10, 11
_FLAG_SIGNAL, _FLAG_BACKUP = 1, 4

# enum mptcp_pm_attrs, mptcp_pm_addr_attrs
_ADDR, _SUBFLOWS, _TOKEN, _LOC_ID, _ADDR_REMOTE = 1, 3, 4, 5, 6
_END_FAMILY, _END_ID, _END_ADDR4, _END_ADDR6, _END_PORT, _END_FLAGS, _END_DEVICE = 1, 2, 3, 4, 5, 6, 7


class PathManager:
    """Orders to the userspace path manager and everything the kernel tells of connections in this namespace."""

    def __init__(self) -> None:
        """Raises SystemLacks if the kernel has no path manager to talk to."""
        self._id, groups = _find()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.GENERIC)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, groups[_EVENT_GROUP])
        self._socket.setblocking(False)
        self._orders: dict[int, tuple[int, int]] = {}  # sequence number -> token, local id: orders without an answer
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def join(self, token: int, local: Endpoint, remote: Endpoint, backup: bool = False) -> None:
        """Orders a subflow. The answer comes as an event: SubflowEstablished, SubflowClosed or JoinFailed.

        Kernels that do not know ``backup`` here (6.1 for one) make one that carries: prioritize() is for all.
        """
        self._sequence += 1
        self._orders[self._sequence] = (token, local.id)
        order = attribute(_TOKEN, U32.pack(token)) + _between(local, remote, _flags(backup) if backup else b"")
        self._send(_SUBFLOW_CREATE, order)

    def prioritize(self, token: int, local: Endpoint, remote: Endpoint, backup: bool) -> None:
        """Orders that the subflow is a backup, or none, here and by MP_PRIO at the peer (RFC 8684, section 3.3.8).

        There is no answer; a subflow that is no more is none that one could tell.
        """
        self._sequence += 1
        order = attribute(_TOKEN, U32.pack(token)) + _between(local, remote, _flags(backup))
        self._send(_SET_FLAGS, order, acknowledged=False)

    def leave(self, token: int, local: Endpoint, remote: Endpoint) -> None:
        """Orders that the peer is told of the address's end (RM_ADDR), and that the subflow is closed.

        In this order: the kernel has nothing to say of an address that no subflow has. There is no answer.
        """
        of = attribute(_TOKEN, U32.pack(token))
        for command, order in (
            (_REMOVE, of + attribute(_LOC_ID, U8.pack(local.id))),
            (_SUBFLOW_DESTROY, of + _between(local, remote)),
        ):
            self._sequence += 1
            self._send(command, order)

    def _send(self, command: int, order: bytes, *, acknowledged: bool = True) -> None:
        flags = netlink.ACK if acknowledged else 0
        self._socket.send(netlink.message(self._id, flags, self._sequence, _command(command) + order))

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
                self._orders.clear()  # their answers may be among what is lost
                yield EventsLost()
                continue
            yield from self._read(data)

    def _read(self, data: bytes) -> Iterator[PathEvent]:
        for kind, _, sequence, body in netlink.messages(data):
            if kind == netlink.ERROR:
                (code,) = struct.unpack_from("=i", body)
                order = self._orders.pop(sequence, None)
                if code and order is not None:
                    yield JoinFailed(*order, -code)
            elif kind == self._id:
                event = read(body)
                if event is not None:
                    yield event


class PortWaits(Exception):
    """Nobody listens at the port, but connections that have just ended there are in TIME_WAIT."""


class Announcer:
    """The addresses that the kernel's own path manager announces to every peer, each with a port to join at."""

    def __init__(self) -> None:
        """Raises SystemLacks if the kernel has no path manager to talk to."""
        self._id, _ = _find()
        self._kernel = Netlink(netlink.GENERIC)

    def close(self) -> None:
        self._kernel.close()

    def announce(self, endpoint: Endpoint) -> None:
        """Announces it and listens for joins there. One that is announced already stays: its subflows live by it.

        Raises PortWaits, or Unavailable if the port is taken.
        """
        if self._find([endpoint]):
            return
        signal = attribute(_END_FLAGS, U32.pack(_FLAG_SIGNAL))
        try:
            self._order(_ADD_ADDR, nested(_ADDR, *_end(endpoint), signal))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and not _listens(endpoint):
                raise PortWaits from None
            raise Unavailable(
                f"the kernel does not listen for subflows at {endpoint.address} port {endpoint.port}: {error.strerror}"
            ) from None

    def withdraw(self, endpoints: Iterable[Endpoint]) -> None:
        """Announces these no more; fine if that was not the case."""
        for found in self._find(endpoints):
            self._order(_DEL_ADDR, nested(_ADDR, *_end(found)))

    def _find(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        """Those of the kernel's endpoints that are at these addresses and ports."""
        wanted = {(endpoint.address, endpoint.port) for endpoint in endpoints}
        found = []
        for told in self._kernel.dump(self._id, _command(_GET_ADDR)):
            endpoint = _endpoint(attributes(attributes(told, GENERIC_HEADER.size)[_ADDR]))
            if (endpoint.address, endpoint.port) in wanted:
                found.append(endpoint)
        return found

    def allow(self, subflows: int) -> None:
        """How many subflows beyond its first a connection may have (the kernel's maximum is 8). Raises OSError."""
        self._order(_SET_LIMITS, attribute(_SUBFLOWS, U32.pack(subflows)))

    def allowed(self) -> int:
        limits = attributes(self._kernel.ask(self._id, _command(_GET_LIMITS)), GENERIC_HEADER.size)
        return int(U32.unpack(limits[_SUBFLOWS])[0])

    def _order(self, command: int, told: bytes) -> None:
        self._kernel.order(self._id, _command(command) + told)


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


def _find() -> tuple[int, dict[str, int]]:
    """Number of the family, and of its groups."""
    try:
        return netlink.find_family(_FAMILY)
    except OSError:
        raise SystemLacks("the kernel has no Multipath TCP path manager (CONFIG_MPTCP)") from None


def _command(number: int) -> bytes:
    return GENERIC_HEADER.pack(number, _VERSION)


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


def _end(endpoint: Endpoint) -> Iterator[bytes]:
    yield attribute(_END_FAMILY, U16.pack(endpoint.family))
    yield attribute(_END_ID, U8.pack(endpoint.id))
    kind = _END_ADDR6 if endpoint.family == socket.AF_INET6 else _END_ADDR4
    yield attribute(kind, socket.inet_pton(endpoint.family, endpoint.address))
    if endpoint.port:
        yield attribute(_END_PORT, U16.pack(endpoint.port))
    if endpoint.device:
        yield attribute(_END_DEVICE, U32.pack(endpoint.device))


def _flags(backup: bool) -> bytes:
    return attribute(_END_FLAGS, U32.pack(_FLAG_BACKUP if backup else 0))


def _between(local: Endpoint, remote: Endpoint, of_local: bytes = b"") -> bytes:
    return nested(_ADDR, *_end(local), of_local) + nested(_ADDR_REMOTE, *_end(remote))


def _endpoint(told: Attributes) -> Endpoint:
    """Without its device."""
    kind, family = (_END_ADDR6, socket.AF_INET6) if _END_ADDR6 in told else (_END_ADDR4, socket.AF_INET)
    port = told.get(_END_PORT)
    return Endpoint(
        socket.inet_ntop(family, told[kind]),
        U16.unpack(port)[0] if port else 0,
        U8.unpack(told[_END_ID])[0],
    )
