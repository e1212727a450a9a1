# SPDX-License-Identifier: GPL-2.0-or-later
"""The options by which Multipath TCP connections begin, grow and announce addresses: bytes to dataclasses.

``data`` is an option of kind 30 without kind and length. What has not the size that its flags ask for is None, as for
the kernel (mptcp_parse_option(), net/mptcp/options.c): the segment then counts as one without the option. The forms of
MP_CAPABLE and MP_JOIN depend on the ``step`` of the handshake: SYN, SYN+ACK or ACK.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final

MP_CAPABLE: Final = 0x0
MP_JOIN: Final = 0x1
ADD_ADDR: Final = 0x3

MP_CAPABLE_HMAC_SHA256: Final = 0x01
MP_CAPABLE_NO_JOIN_HERE: Final = 0x20

_SYN, _SYN_ACK, _ACK = 0x02, 0x12, 0x10  # of the TCP flags

_JOIN_SYN = struct.Struct("!II")
_JOIN_SYN_ACK = struct.Struct("!8sI")

# Octets of MP_CAPABLE after kind and length, by step: RFC 8684 section 3.1, RFC 6824 (a key in the SYN too)
_MP_CAPABLE_SIZES: Final = {_SYN: (2,), _SYN_ACK: (10,), _ACK: (18, 20, 22)}
_MP_CAPABLE_V0_SIZES: Final = {_SYN: (10,), _SYN_ACK: (10,), _ACK: (18,)}


@dataclass(frozen=True, slots=True)
class MpCapable:
    """MP_CAPABLE (RFC 8684 section 3.1). A key is a 64-bit number, None where the form has none."""

    version: int
    flags: int
    sender_key: int | None
    receiver_key: int | None

    @property
    def no_join_here(self) -> bool:
        """Flag C: no subflows to the address that the sender of this has (RFC 8684, section 3.1)."""
        return bool(self.flags & MP_CAPABLE_NO_JOIN_HERE)


@dataclass(frozen=True, slots=True)
class MpJoin:
    """MP_JOIN (RFC 8684 section 3.2).

    The SYN has all but ``hmac``; the SYN+ACK has all but ``token``, its ``hmac`` is of 8 bytes; the ACK has
    nothing but an ``hmac`` of 20 bytes.
    """

    backup: bool
    address_id: int | None
    token: int | None
    nonce: int | None
    hmac: bytes | None


@dataclass(frozen=True, slots=True)
class AddAddr:
    """ADD_ADDR (RFC 8684 section 3.4.1); ``port`` None means the subflow's; only an echo has no ``hmac``."""

    address_id: int
    address: str
    port: int | None
    echo: bool
    hmac: bytes | None


def pull_mp_capable(data: bytes, step: int) -> MpCapable | None:
    version = data[0] & 0x0F
    sizes = _MP_CAPABLE_SIZES if version else _MP_CAPABLE_V0_SIZES
    if len(data) not in sizes.get(step, ()):
        return None
    sender, receiver = data[2:10], data[10:18]
    return MpCapable(
        version,
        data[1],
        int.from_bytes(sender, "big") if sender else None,
        int.from_bytes(receiver, "big") if receiver else None,
    )


def pull_mp_join(data: bytes, step: int) -> MpJoin | None:
    backup = bool(data[0] & 0x01)
    if step == _SYN and len(data) == 10:
        token, nonce = _JOIN_SYN.unpack_from(data, 2)
        return MpJoin(backup, data[1], token, nonce, None)
    if step == _SYN_ACK and len(data) == 14:
        hmac, nonce = _JOIN_SYN_ACK.unpack_from(data, 2)
        return MpJoin(backup, data[1], None, nonce, hmac)
    if step == _ACK and len(data) == 22:
        return MpJoin(False, None, None, None, data[2:])  # here the bit and the octet of the ID are reserved
    return None


def pull_add_addr(data: bytes) -> AddAddr | None:
    echo = bool(data[0] & 0x01)
    end = len(data) if echo else len(data) - 8
    size = end - 2
    if size not in (4, 6, 16, 18):
        return None
    family, width = (AF_INET, 4) if size < 16 else (AF_INET6, 16)
    return AddAddr(
        address_id=data[1],
        address=inet_ntop(family, data[2 : 2 + width]),
        port=int.from_bytes(data[2 + width : end], "big") if size > width else None,
        echo=echo,
        hmac=None if echo else data[end:],
    )
