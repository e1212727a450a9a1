# SPDX-License-Identifier: GPL-2.0-or-later
"""Echo requests over links (ICMP, RFC 792 and RFC 4443) and what the links' devices have received.

Sockets are raw, for which the daemon has the capability anyway: those for ping(8) without it take a setting of the box
(net.ipv4.ping_group_range). They are bound to the device, so a probe leaves there wherever everything else goes. Nobody
is woken by an answer: the kernel notes when it came, and it is read when the next probe is due.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from common.log import about, log
from common.meter import Meter
from cpe.health import Aim

_ECHO: Final = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_REQUEST: Final = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY: Final = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL: Final = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}

_SOL_RAW: Final = 255
_ICMP_FILTER: Final = 1  # linux/icmp.h, linux/icmpv6.h: both sockopts have a bit set for each type that is not wanted
_SO_TIMESTAMPNS: Final = 64  # SO_TIMESTAMPNS_NEW, asm-generic/socket.h: two times 64 bits on every machine
_STAMP: Final = struct.Struct("=qq")
_BEFORE_OTHERS: Final = 6  # SO_PRIORITY as for ssh(1) and the like: not behind what waits in this box's own queue
_SHORTEST: Final = 20  # bytes of an IPv4 header
_LONGEST: Final = 128
_AT_ONCE: Final = 256  # answers, or errors, that are read at a time: more than are asked for in seconds


class Echo:
    """Who is asked over one link."""

    def __init__(self, aim: Aim, device: str) -> None:
        """Raises OSError."""
        self.aim = aim
        self._family = socket.AddressFamily(aim.family)
        self._identifier = secrets.randbits(16)
        self._socket = socket.socket(self._family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _PROTOCOL[self._family])
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _BEFORE_OTHERS)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(*_filter(self._family))
            self._socket.bind((aim.source, 0))
            self._socket.connect((aim.target, 0))
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def send(self, sequence: int) -> None:
        """What cannot be sent is as good as lost on its way."""
        with suppress(OSError):
            self._socket.send(request(self._family, self._identifier, sequence))

    def answers(self) -> Iterator[tuple[int, float]]:
        """Sequence numbers of what has been answered since the last call, and how many seconds ago that came."""
        for _ in range(_AT_ONCE):
            try:
                data, stamps, _, _ = self._socket.recvmsg(_LONGEST, 64)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an earlier probe: there may be more behind it
            sequence = answered(self._family, self._identifier, data)
            if sequence is not None:
                yield sequence, _age(stamps)


class Probes:
    """One for each link that is asked, and the counters of its device."""

    def __init__(self) -> None:
        self._echoes: dict[str, Echo] = {}
        self._refused: dict[str, Aim] = {}
        self.meter = Meter()

    def close(self) -> None:
        for echo in self._echoes.values():
            echo.close()
        self.meter.close()

    def aim(self, aims: Mapping[str, Aim], devices: Mapping[str, str]) -> dict[str, Aim]:
        """Asks these and no others, through the devices of these names; those that can be asked."""
        for name in [it for it, echo in self._echoes.items() if aims.get(it) != echo.aim]:
            self._echoes.pop(name).close()
        for name, aim in aims.items():
            if name in self._echoes:
                continue
            try:
                self._echoes[name] = Echo(aim, devices[name])
            except OSError as error:
                if self._refused.get(name) != aim:
                    log.warning("link %s cannot be probed: %s", name, error.strerror, extra=about(link=name))
                self._refused[name] = aim
        return {name: echo.aim for name, echo in self._echoes.items()}

    def send(self, link: str, sequence: int) -> None:
        if link in self._echoes:
            self._echoes[link].send(sequence)

    def answers(self) -> Iterator[tuple[str, int, float]]:
        """Link, sequence number and age in seconds of what has been answered since the last call."""
        for name, echo in self._echoes.items():
            for sequence, age in echo.answers():
                yield name, sequence, age

    def packets(self) -> dict[str, int]:
        """That have come, by link."""
        found = {}
        for name, echo in self._echoes.items():
            with suppress(OSError):
                counters = self.meter.read(echo.aim.device)
                if counters is not None:
                    found[name] = counters.packets_down
        return found


def request(family: int, identifier: int, sequence: int) -> bytes:
    """28 bytes with the header of IPv4, 48 with that of IPv6, whose checksum the kernel adds."""
    message = _ECHO.pack(_REQUEST[socket.AddressFamily(family)], 0, 0, identifier, sequence)
    if family == socket.AF_INET6:
        return message
    return message[:2] + _checksum(message).to_bytes(2, "big") + message[4:]


def answered(family: int, identifier: int, data: bytes) -> int | None:
    """The sequence number in what was received, over IPv4 with its header; None if it is no answer to us."""
    start = (data[0] & 0xF) * 4 if family == socket.AF_INET and data else 0
    if len(data) < start + _ECHO.size or (family == socket.AF_INET and start < _SHORTEST):
        return None
    kind, code, _, whose, sequence = _ECHO.unpack_from(data, start)
    ours = kind == _REPLY[socket.AddressFamily(family)] and code == 0 and whose == identifier
    return int(sequence) if ours else None


def _checksum(message: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _filter(family: int) -> tuple[int, int, bytes]:
    """Of all messages for this host only replies wake anything, or take room."""
    reply = _REPLY[socket.AddressFamily(family)]
    if family == socket.AF_INET:
        return _SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << reply))
    words = [0xFFFFFFFF] * 8
    words[reply // 32] &= ~(1 << reply % 32)
    return socket.IPPROTO_ICMPV6, _ICMP_FILTER, struct.pack("=8I", *words)


def _age(stamps: list[tuple[int, int, bytes]]) -> float:
    """Seconds since the kernel had it; 0 if it does not say. Both times are the wall clock's, which may be set."""
    for _, kind, data in stamps:
        if kind == _SO_TIMESTAMPNS and len(data) >= _STAMP.size:
            seconds, nanoseconds = _STAMP.unpack_from(data)
            return float(max(0.0, time.time() - seconds - nanoseconds / 1e9))
    return 0.0
