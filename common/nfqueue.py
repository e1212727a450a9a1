# SPDX-License-Identifier: GPL-2.0-or-later
"""One netfilter queue: packets that wait in the kernel for our verdict.

Spoken over a plain AF_NETLINK socket (include/uapi/linux/netfilter/nfnetlink_queue.h, net/netfilter/
nfnetlink_queue.c), a page of struct formats. Of the libraries for it, none lets us set NFQA_CFG_F_FAIL_OPEN,
without which a full queue drops SYNs, and each wants a C compiler on the router.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

NETLINK_NETFILTER: Final = 12
NFNL_SUBSYS_QUEUE: Final = 3

_MSG_PACKET: Final = NFNL_SUBSYS_QUEUE << 8 | 0
_MSG_VERDICT: Final = NFNL_SUBSYS_QUEUE << 8 | 1
_MSG_CONFIG: Final = NFNL_SUBSYS_QUEUE << 8 | 2

_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 1
_NLM_F_ACK: Final = 4

_CFG_CMD, _CFG_PARAMS, _CFG_QUEUE_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_CMD_BIND, _CMD_UNBIND = 1, 2
_COPY_PACKET: Final = 2
_F_FAIL_OPEN: Final = 1

_PACKET_HDR, _VERDICT_HDR, _MARK, _IFINDEX_INDEV, _PAYLOAD = 1, 2, 3, 5, 10  # enum nfqnl_attr_type

DROP: Final = 0
ACCEPT: Final = 1

_NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_NFGENMSG = struct.Struct(">BBH")  # family, version, queue
_ATTR = struct.Struct("=HH")  # length, type; the host's byte order
_U32 = struct.Struct(">I")  # nfnetlink's values are in network byte order
_HEADERS: Final = _NLMSGHDR.size + _NFGENMSG.size

# How the attributes of a packet begin that has come in by a device and has a mark: those of ours do.
_USUAL = struct.Struct(">4sI4x4sI4sI")
_USUAL_HEADERS: Final = (_ATTR.pack(11, _PACKET_HDR), _ATTR.pack(8, _IFINDEX_INDEV), _ATTR.pack(8, _MARK))

# A verdict without new bytes: what changes from one to the next, after the constant head.
_VERDICT = struct.Struct(">II4sI")  # verdict, packet id | header of the mark attribute, mark
_MARK_HEADER: Final = _ATTR.pack(8, _MARK)

_SO_RCVBUFFORCE: Final = 33
_SOL_NETLINK: Final = 270
_NETLINK_NO_ENOBUFS: Final = 5


class QueueError(OSError):
    """The kernel refuses the queue: ``errno`` says why (EBUSY: another process has it, EPERM: no CAP_NET_ADMIN)."""


@dataclass(slots=True)
class QueuedPacket:
    """A packet in the queue. ``payload`` starts with the IP header; ``mark`` is its own; ``device`` an ifindex."""

    id: int
    mark: int
    device: int
    payload: bytes


class Queue:
    """Queue ``number``, holding at most ``capacity`` packets; beyond that the kernel lets packets pass."""

    def __init__(self, number: int, capacity: int = 4096) -> None:
        self.number = number
        self._capacity = capacity
        self._buffer = bytearray(128 * 1024)
        self._verdict_head = _verdict_head(number)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            # Verdicts must get through even when packets had to be thrown away on the way to us.
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
            self._socket.bind((0, 0))
            for attributes in self._setting():
                self._command(attributes)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Ends the queue: packets that wait in it are dropped by the kernel, later ones take the rule's bypass."""
        self._socket.close()

    def packets(self, most: int) -> Iterator[QueuedPacket]:
        """Packets that wait now, of about as many messages as ``most``."""
        for _ in range(most):
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOBUFS):
                    continue
                raise
            yield from _packets(memoryview(self._buffer)[:size])

    def verdict(self, packet_id: int, verdict: int, mark: int, payload: bytes | None = None) -> None:
        """Decides on a packet: ACCEPT or DROP, the mark it goes on with, and other bytes in its place if given."""
        message = _VERDICT.pack(verdict, packet_id, _MARK_HEADER, mark)
        message = (
            self._verdict_head + message
            if payload is None
            else _verdict_head(self.number, len(payload)) + message + _attribute(_PAYLOAD, payload)
        )
        try:
            self._socket.send(message)
        except OSError as error:
            # ENOENT: the kernel has let the packet go meanwhile (its device went away). Nothing waits for us.
            if error.errno != errno.ENOENT:
                raise

    def withdraw(self) -> None:
        """Ends the queue as close() does, though its reader, another process with this socket, still has it.

        What has not been read of it never will be: by the time it is, those packets' copies may have passed.
        """
        self._send(_attribute(_CFG_CMD, struct.pack(">BBH", _CMD_UNBIND, 0, 0)))
        for _ in self.packets(sys.maxsize):
            pass

    def restore(self) -> None:
        """Undoes withdraw(), but packets' numbers begin anew. The reader passes over the kernel's answers."""
        for attributes in self._setting():
            self._send(attributes)

    def _setting(self) -> tuple[bytes, bytes]:
        return (
            _attribute(_CFG_CMD, struct.pack(">BBH", _CMD_BIND, 0, 0)),
            _attribute(_CFG_PARAMS, struct.pack(">IB", 0xFFFF, _COPY_PACKET))
            + _attribute(_CFG_QUEUE_MAXLEN, _U32.pack(self._capacity))
            + _attribute(_CFG_MASK, _U32.pack(_F_FAIL_OPEN))
            + _attribute(_CFG_FLAGS, _U32.pack(_F_FAIL_OPEN)),
        )

    def _send(self, attributes: bytes, flags: int = 0) -> None:
        length = _HEADERS + len(attributes)
        self._socket.send(
            _NLMSGHDR.pack(length, _MSG_CONFIG, _NLM_F_REQUEST | flags, 1, 0)
            + _NFGENMSG.pack(socket.AF_UNSPEC, 0, self.number)
            + attributes
        )

    def _command(self, attributes: bytes) -> None:
        self._send(attributes, _NLM_F_ACK)
        while True:
            size = self._socket.recv_into(self._buffer)
            _, kind, _, _, _ = _NLMSGHDR.unpack_from(self._buffer, 0)
            if kind != _NLMSG_ERROR or size < _NLMSGHDR.size + 4:
                continue  # a packet of another queue user cannot come here, one of ours may, before the answer
            (code,) = struct.unpack_from("=i", self._buffer, _NLMSGHDR.size)
            if code:
                raise QueueError(-code, os.strerror(-code))
            return


def _verdict_head(number: int, payload: int | None = None) -> bytes:
    length = _HEADERS + _ATTR.size + _VERDICT.size
    if payload is not None:
        length += _ATTR.size + (payload + 3 & ~3)
    return (
        _NLMSGHDR.pack(length, _MSG_VERDICT, _NLM_F_REQUEST, 0, 0)
        + _NFGENMSG.pack(socket.AF_UNSPEC, 0, number)
        + _ATTR.pack(12, _VERDICT_HDR)
    )


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTR.pack(_ATTR.size + len(value), kind) + value + bytes(-len(value) % 4)


def _packets(data: memoryview) -> Iterator[QueuedPacket]:
    start = 0
    while start + _HEADERS <= len(data):
        length, kind, _, _, _ = _NLMSGHDR.unpack_from(data, start)
        if length < _HEADERS or start + length > len(data):
            return
        if kind == _MSG_PACKET:
            yield _packet(data[start + _HEADERS : start + length])
        start += (length + 3) & ~3


def _packet(attributes: memoryview) -> QueuedPacket:
    packet_id = mark = device = 0
    payload = b""
    start = 0
    if len(attributes) >= _USUAL.size:
        first, number, second, index, third, value = _USUAL.unpack_from(attributes)
        if (first, second, third) == _USUAL_HEADERS:
            packet_id, device, mark, start = number, index, value, _USUAL.size
    while start + _ATTR.size <= len(attributes):
        length, kind = _ATTR.unpack_from(attributes, start)
        if length < _ATTR.size:
            break
        value = start + _ATTR.size
        kind &= 0x3FFF
        if kind == _PACKET_HDR:
            (packet_id,) = _U32.unpack_from(attributes, value)
        elif kind == _MARK:
            (mark,) = _U32.unpack_from(attributes, value)
        elif kind == _IFINDEX_INDEV:
            (device,) = _U32.unpack_from(attributes, value)
        elif kind == _PAYLOAD:
            payload = bytes(attributes[value : start + length])
        start += (length + 3) & ~3
    return QueuedPacket(packet_id, mark, device, payload)
