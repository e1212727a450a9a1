# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions and orders to the kernel over netlink (netlink(7), include/uapi/linux/netlink.h, genetlink.h).

A page of struct formats. A library for it would be the larger part of the daemon: pyroute2 0.9 takes longer to import
than all the rest together and twice the memory, on a home router that has little of either.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

ROUTE: Final = 0  # NETLINK_ROUTE
NETFILTER: Final = 12  # NETLINK_NETFILTER
GENERIC: Final = 16  # NETLINK_GENERIC

NFTABLES: Final = 10  # NFNL_SUBSYS_NFTABLES

ERROR: Final = 2  # NLMSG_ERROR, an acknowledgement too
_DONE: Final = 3
FIRST_KIND: Final = 16  # NLMSG_MIN_TYPE: below are messages of netlink itself

REQUEST: Final = 0x1  # NLM_F_...
ACK: Final = 0x4
_INTERRUPTED: Final = 0x10
REPLACE: Final = 0x100
EXCLUSIVE: Final = 0x200
DUMP: Final = 0x300
CREATE: Final = 0x400
NESTED: Final = 0x8000  # NLA_F_NESTED

U8 = struct.Struct("=B")
U16 = struct.Struct("=H")
U32 = struct.Struct("=I")
HEADER = struct.Struct("=IHHII")  # length, kind, flags, sequence, port
GENERIC_HEADER = struct.Struct("=BB2x")  # command, version
_ATTRIBUTE = struct.Struct("=HH")  # length, kind

_BUFFER: Final = 64 * 1024  # more than the kernel puts into one message of a dump
_TRIES: Final = 10  # of a dump that changes of its subject interrupt

_CONTROLLER: Final = 16  # GENL_ID_CTRL
_GET_FAMILY: Final = 3
_FAMILY_ID, _FAMILY_NAME, _FAMILY_GROUPS = 1, 2, 7  # CTRL_ATTR_...
_GROUP_NAME, _GROUP_ID = 1, 2

Attributes = dict[int, bytes]


class Netlink:
    """A socket that waits for the kernel's answer. Raises OSError with what the kernel says."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def order(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Something that is done or refused."""
        self._ask(kind, body, ACK | flags)

    def ask(self, kind: int, body: bytes) -> bytes:
        """A question with one answer: what follows the header."""
        (answer,) = self._ask(kind, body, ACK)[0]
        return answer

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All that there is of something, as it was at one time; or as good as that where it never rests."""
        for _ in range(_TRIES):
            found, interrupted = self._ask(kind, body, DUMP)
            if not interrupted:
                break
        return found

    def _ask(self, kind: int, body: bytes, flags: int) -> tuple[list[bytes], bool]:
        """What was answered, and whether something changed meanwhile."""
        self._sequence += 1
        self._socket.send(message(kind, flags, self._sequence, body))
        found: list[bytes] = []
        interrupted = False
        while True:
            for answered, flag, sequence, answer in messages(self._socket.recv(_BUFFER)):
                if sequence != self._sequence:
                    continue  # to a question that was given up
                interrupted = interrupted or bool(flag & _INTERRUPTED)
                if answered in (ERROR, _DONE):
                    _raise(answer)
                    return found, interrupted
                found.append(answer)


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, sequence, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(kind, flags, sequence, what follows the header) of each message in what was received at once."""
    start = 0
    while start + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, start)
        if length < HEADER.size:
            return
        yield kind, flags, sequence, data[start + HEADER.size : start + length]
        start += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *inner: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(inner))


def attributes(data: bytes, start: int = 0) -> Attributes:
    """Those from `start` on. Of several of a kind, the last one."""
    found = {}
    end = len(data)
    while start + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3
    return found


def text(value: bytes) -> str:
    """A string attribute's."""
    return value.rstrip(b"\0").decode()


def find_family(name: str) -> tuple[int, dict[str, int]]:
    """Number of a generic netlink family, and the numbers of its groups. OSError (ENOENT) if the kernel has none."""
    kernel = Netlink(GENERIC)
    try:
        wanted = attribute(_FAMILY_NAME, name.encode() + b"\0")
        answer = kernel.ask(_CONTROLLER, GENERIC_HEADER.pack(_GET_FAMILY, 1) + wanted)
    finally:
        kernel.close()
    family = attributes(answer, GENERIC_HEADER.size)
    groups = {}
    for group in attributes(family.get(_FAMILY_GROUPS, b"")).values():
        told = attributes(group)
        groups[text(told[_GROUP_NAME])] = U32.unpack(told[_GROUP_ID])[0]
    return U16.unpack(family[_FAMILY_ID])[0], groups


def _raise(answer: bytes) -> None:
    """The end of an answer: an error number, negative, or 0."""
    if len(answer) >= 4:
        (code,) = struct.unpack_from("=i", answer)
        if code:
            raise OSError(-code, os.strerror(-code))
