# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP packets as the queue hands them over: bytes to a Segment, and the few edits that we make.

Bytes start with the IPv4 or IPv6 header. They come from anybody, so every function here answers any bytes
with a result or with PacketError. A packet we cannot read is not ours to hold, and one that a proxy cannot
speak for (a fragment, a source route that is not yet at its end) is refused in the same way.

Edits change the TCP options only; payload stays. Three rules hold for all of them:
  1. Checksums are updated by the difference of what changed (RFC 1624) and not computed afresh: a packet that
     came in damaged goes out as damaged as it was, for its receiver to find out, and the payload is not read.
     (A queue without NFQA_CFG_F_GSO gives real checksums: the kernel fills in what it had left to a device.)
  2. What an end has signed is refused, since no edit survives the check at the other end: AH (RFC 4302),
     TCP-MD5 (RFC 2385) and TCP-AO (RFC 5925).
  3. With nothing to change the packet comes back as it was; else without what a link has padded it with.

Options may begin on any octet (RFC 9293, section 3.1), so none is ever moved to align it.
"""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, NamedTuple, TypeAlias

from common.mptcp_option import (
    ADD_ADDR,
    MP_CAPABLE,
    MP_CAPABLE_HMAC_SHA256,
    MP_JOIN,
    AddAddr,
    MpCapable,
    MpJoin,
    pull_add_addr,
    pull_mp_capable,
    pull_mp_join,
)

Bytes: TypeAlias = bytes | bytearray | memoryview

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80

OPTION_END: Final = 0
OPTION_NOP: Final = 1
OPTION_MSS: Final = 2
OPTION_MD5: Final = 19
OPTION_AO: Final = 29
OPTION_MPTCP: Final = 30

MAX_OPTIONS: Final = 40  # bytes; the data offset counts up to 15 words, 5 of them are fixed

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHHH")
_U16 = struct.Struct("!H")

_PROTOCOL_TCP: Final = 6
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _DESTINATION = 0, 43, 44, 51, 60
_EXTENSIONS: Final = frozenset((_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _DESTINATION))
_SOURCE_ROUTES: Final = frozenset((131, 137))  # IPv4 options: loose, strict
_SIGNATURES: Final = frozenset((OPTION_MD5, OPTION_AO))
_STEP: Final = SYN | ACK | RST | FIN  # the flags that tell the steps of a handshake apart


class PacketError(ValueError):
    """The bytes are not a packet we work on; the text says why, without any byte of the payload."""


class TcpOption(NamedTuple):
    """One TCP option; ``data`` is what follows kind and length (0 ... 38 bytes)."""

    kind: int
    data: bytes


class Segment(NamedTuple):
    """A TCP segment in its IP packet.

    ``family`` is AF_INET or AF_INET6, addresses are text as inet_ntop writes it, ``flags`` is an OR of FIN
    ... CWR. ``tcp_offset``, ``payload_offset`` and ``length`` count bytes from the start of the IP header;
    what is past ``length`` is not the packet's. ``options`` are in wire order, without NOP and without what
    follows the end-of-options octet. ``has_ah`` says that an authentication header covers the packet.

    A Multipath TCP option whose size is not that of its form for these flags is taken as absent, as the
    kernel does (net/mptcp/options.c). So are two MP_CAPABLE or two MP_JOIN: which of them the other end
    acts on is anybody's guess, and without Multipath TCP the connection works.
    """

    family: int
    source: str
    destination: str
    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    window: int
    dscp: int
    ecn: int
    options: tuple[TcpOption, ...]
    tcp_offset: int
    payload_offset: int
    length: int
    has_ah: bool

    @property
    def payload_length(self) -> int:
        """TCP payload in bytes; that of a SYN is Fast Open data."""
        return self.length - self.payload_offset

    @property
    def is_syn(self) -> bool:
        """Opens a connection. SYN with RST or FIN does not, TCP throws such segments away."""
        return self.flags & _STEP == SYN

    @property
    def is_syn_ack(self) -> bool:
        return self.flags & _STEP == SYN | ACK

    @property
    def signed(self) -> bool:
        """The ends sign what they send (AH, TCP-MD5, TCP-AO): no proxy can stand in for one of them."""
        return self.has_ah or any([kind in _SIGNATURES for kind, _ in self.options])

    @property
    def mss(self) -> int | None:
        """The maximum segment size option, in bytes; the first one if there are more."""
        for option in self.options:
            if option.kind == OPTION_MSS and len(option.data) == 2:
                return int.from_bytes(option.data, "big")
        return None

    @property
    def mp_capable(self) -> MpCapable | None:
        found = self._mptcp(MP_CAPABLE)
        return pull_mp_capable(found[0], self.flags & _STEP) if len(found) == 1 else None

    @property
    def mp_join(self) -> MpJoin | None:
        found = self._mptcp(MP_JOIN)
        return pull_mp_join(found[0], self.flags & _STEP) if len(found) == 1 else None

    @property
    def add_addr(self) -> AddAddr | None:
        """The first announcement of the segment; there may be several."""
        found = self._mptcp(ADD_ADDR)
        return pull_add_addr(found[0]) if found else None

    def _mptcp(self, subtype: int) -> list[bytes]:
        return [data for kind, data in self.options if kind == OPTION_MPTCP and data and data[0] >> 4 == subtype]


class _Ip(NamedTuple):
    family: int
    source: bytes
    destination: bytes
    traffic_class: int
    tcp_offset: int
    length: int
    has_ah: bool


_Span: TypeAlias = tuple[int, int, int]  # one option: its kind, and where in the option area it starts and ends


class _Packet(NamedTuple):
    """A packet taken apart. ``options`` is the whole option area, ``spans`` what it holds besides padding."""

    data: bytes
    ip: _Ip
    payload_offset: int
    options: bytes
    spans: list[_Span]

    @property
    def flags(self) -> int:
        return self.data[self.ip.tcp_offset + 13]

    def is_capable(self, span: _Span) -> bool:
        """Whether the option is an MP_CAPABLE, of whatever size."""
        kind, start, end = span
        subtype = self.options[start + 2 : end][:1]
        return kind == OPTION_MPTCP and subtype != b"" and subtype[0] >> 4 == MP_CAPABLE


def _spans(area: bytes, where: str) -> list[_Span]:
    """Walk an option area; IPv4 (RFC 791) and TCP (RFC 9293 section 3.2) write options alike."""
    spans = []
    start, size = 0, len(area)
    while start < size:
        kind = area[start]
        if kind == OPTION_END:
            break
        if kind == OPTION_NOP:
            start += 1
            continue
        end = start + area[start + 1] if start + 1 < size else start
        if not start + 2 <= end <= size:
            raise PacketError(f"{where} option {kind} at octet {start} of {size} has a wrong length")
        spans.append((kind, start, end))
        start = end
    return spans


def _end(spans: list[_Span]) -> int:
    """Where the last one ends."""
    return spans[-1][2] if spans else 0


def _open_ipv4(data: bytes) -> _Ip:
    if len(data) < 20:
        raise PacketError("IPv4 header is cut short")
    first, tos, length, _, fragment, _, protocol, _, source, destination = _IPV4.unpack_from(data)
    offset = (first & 0x0F) * 4
    if not 20 <= offset <= length <= len(data):
        raise PacketError(f"IPv4 header of {offset} bytes, packet of {length}, but {len(data)} are here")
    if fragment & 0x3FFF:  # more to come, or not the first
        raise PacketError("IPv4 fragment")
    if protocol != _PROTOCOL_TCP:
        raise PacketError(f"IPv4 protocol {protocol} is not TCP")
    if offset > 20 and any(kind in _SOURCE_ROUTES for kind, _, _ in _spans(data[20:offset], "IPv4")):
        raise PacketError("IPv4 source route: the header need not name the destination")
    return _Ip(AF_INET, source, destination, tos, offset, length, False)


def _open_ipv6(data: bytes) -> _Ip:
    if len(data) < 40:
        raise PacketError("IPv6 header is cut short")
    first, payload, header, _, source, destination = _IPV6.unpack_from(data)
    length = 40 + payload
    if length > len(data):
        raise PacketError(f"IPv6 packet of {length} bytes, but {len(data)} are here")
    offset, has_ah = (40, False) if header == _PROTOCOL_TCP else _skip_extensions(data, header, length)
    return _Ip(AF_INET6, source, destination, first >> 20 & 0xFF, offset, length, has_ah)


def _skip_extensions(data: bytes, header: int, length: int) -> tuple[int, bool]:
    """Walk the extension headers (RFC 8200 section 4): the offset of TCP, whether an AH was on the way."""
    offset, has_ah = 40, False
    while header != _PROTOCOL_TCP:
        if header not in _EXTENSIONS:
            raise PacketError(f"IPv6 next header {header} is neither TCP nor one to skip")
        if offset + 8 > length:
            raise PacketError(f"IPv6 extension header {header} is cut short")
        following, size = data[offset], data[offset + 1]
        if header == _FRAGMENT:
            if _U16.unpack_from(data, offset + 2)[0] & 0xFFF9:
                raise PacketError("IPv6 fragment")
            offset += 8  # an atomic fragment (RFC 6946): the whole packet
        elif header == _AH:
            has_ah = True
            offset += (size + 2) * 4
        else:
            if header == _ROUTING and data[offset + 3]:
                raise PacketError("IPv6 source route: the header does not name the destination")
            offset += (size + 1) * 8
        header = following
    return offset, has_ah


def _open(data: Bytes) -> _Packet:
    data = bytes(data)  # no copy if it is bytes already; a memoryview may be strided
    version = data[0] >> 4 if data else 0
    if version == 4:
        ip = _open_ipv4(data)
    elif version == 6:
        ip = _open_ipv6(data)
    else:
        raise PacketError(f"IP version {version}" if data else "empty packet")
    options = ip.tcp_offset + 20
    if options > ip.length:
        raise PacketError("TCP header is cut short")
    payload = ip.tcp_offset + (data[ip.tcp_offset + 12] >> 4) * 4
    if not options <= payload <= ip.length:
        raise PacketError(f"TCP data offset {data[ip.tcp_offset + 12] >> 4} is outside of the segment")
    area = data[options:payload]
    return _Packet(data, ip, payload, area, _spans(area, "TCP"))


def parse(data: Bytes) -> Segment:
    """The segment in an IPv4 or IPv6 packet; checksums are not looked at.

    IPv6 hop-by-hop, routing (with no segment left), destination options, authentication and atomic fragment
    headers are skipped. Raises PacketError for what is not one whole TCP segment with well-formed options.
    """
    packet = _open(data)
    ip, area = packet.ip, packet.options
    sport, dport, seq, ack, _, flags, window, _, _ = _TCP.unpack_from(packet.data, ip.tcp_offset)
    return Segment(
        ip.family,
        inet_ntop(ip.family, ip.source),
        inet_ntop(ip.family, ip.destination),
        sport,
        dport,
        seq,
        ack,
        flags,
        window,
        ip.traffic_class >> 2,
        ip.traffic_class & 0x03,
        tuple([TcpOption(kind, area[start + 2 : end]) for kind, start, end in packet.spans]),
        ip.tcp_offset,
        packet.payload_offset,
        ip.length,
        ip.has_ah,
    )


def _sum(data: bytes | bytearray) -> int:
    """The ones' complement sum of the 16-bit words of ``data``, not folded.

    2**16 is 1 modulo 0xFFFF, so a long number and the sum of its words leave the same remainder there.
    """
    return int.from_bytes(data, "big") if len(data) % 2 == 0 else int.from_bytes(data, "big") << 8


def checksums_ok(data: Bytes) -> bool:
    """Whether the TCP and the IPv4 header checksum are right. Raises PacketError where parse() does."""
    data, ip, _, _, _ = _open(data)
    pseudo = _sum(ip.source + ip.destination) + _PROTOCOL_TCP + ip.length - ip.tcp_offset
    if (pseudo + _sum(data[ip.tcp_offset : ip.length])) % 0xFFFF:
        return False
    return ip.family == AF_INET6 or _sum(data[: ip.tcp_offset]) % 0xFFFF == 0


def _adjust(header: bytearray, offset: int, difference: int) -> None:
    """Update the checksum at ``offset`` for words whose sum has grown by ``difference`` (RFC 1624).

    Neither header can sum up to plain zero, so of the two zeros the result is the one that a sender writes.
    """
    (checksum,) = _U16.unpack_from(header, offset)
    _U16.pack_into(header, offset, (checksum - difference) % 0xFFFF)


def _resize(header: bytearray, ip: _Ip, growth: int) -> None:
    offset = 2 if ip.family == AF_INET else 4
    size = _U16.unpack_from(header, offset)[0] + growth
    if size > 0xFFFF:
        raise PacketError("packet would get longer than its IP header can say")
    _U16.pack_into(header, offset, size)
    if growth and ip.family == AF_INET:
        _adjust(header, 10, growth)


def _with_options(packet: _Packet, options: bytes | bytearray) -> bytes:
    """The packet with another option area, a multiple of 4 bytes and at most 40."""
    data, ip = packet.data, packet.ip
    if ip.has_ah or any(kind in _SIGNATURES for kind, _, _ in packet.spans):
        raise PacketError("segment is signed (AH, TCP-MD5 or TCP-AO)")
    old = data[ip.tcp_offset : packet.payload_offset]
    new = bytearray(old[:20] + options)
    new[12] = len(new) << 2 | old[12] & 0x0F
    growth = len(new) - len(old)
    _adjust(new, 16, _sum(new) - _sum(old) + growth)  # once more for the length in the pseudo-header
    header = bytearray(data[: ip.tcp_offset])
    _resize(header, ip, growth)
    return bytes(header + new) + data[packet.payload_offset : ip.length]


def _pad(options: bytes, padding: bytes) -> bytes:
    """``options`` filled up to whole words with their old padding, then zeros, and no further."""
    return (options + padding + bytes(3))[: (len(options) + 3) & ~3]


def _add(packet: _Packet, option: bytes) -> bytes:
    """The option area with ``option`` (whole words) after the last one.

    It takes the place of padding if there is enough of it: at the end, else between options, which are then
    moved together. So a SYN full of Fast Open data still fits the link. Else the area grows, padding stays.
    """
    area = packet.options
    used = _end(packet.spans)
    grown = area[:used] + option + area[used:]
    if len(area) - used >= len(option):
        return grown[: len(area)]
    packed = _pad(b"".join(area[start:end] for _, start, end in packet.spans) + option, b"")
    return packed if len(packed) <= len(area) else grown


def insert_option(data: Bytes, kind: int, value: Bytes) -> bytes:
    """The packet with an option added as last one, after NOPs that make it whole words; payload stays.

    Raises PacketError where parse() does, and if the packet is signed or has no room.
    """
    packet = _open(data)
    option = bytes((kind, 2 + len(value))) + bytes(value)
    options = _add(packet, bytes((OPTION_NOP,)) * (-len(option) % 4) + option)
    if len(options) > MAX_OPTIONS:
        raise PacketError(f"no room for option {kind} among the TCP options")
    return _with_options(packet, options)


def readdress(data: Bytes, destination: str, dport: int) -> bytes:
    """The packet with another destination, an address (text) of its own family and a port: what NAT has done, undone.

    Raises PacketError where parse() does, and if the segment is signed.
    """
    packet = _open(data)
    ip = packet.ip
    if ip.has_ah or any(kind in _SIGNATURES for kind, _, _ in packet.spans):
        raise PacketError("segment is signed (AH, TCP-MD5 or TCP-AO)")
    address = inet_pton(ip.family, destination)
    changed = bytearray(packet.data[: ip.length])
    start = 16 if ip.family == AF_INET else 24
    changed[start : start + len(address)] = address
    (before,) = _U16.unpack_from(changed, ip.tcp_offset + 2)
    _U16.pack_into(changed, ip.tcp_offset + 2, dport)
    growth = _sum(address) - _sum(ip.destination)
    _adjust(changed, ip.tcp_offset + 16, growth + dport - before)
    if ip.family == AF_INET:
        _adjust(changed, 10, growth)
    return bytes(changed)


def insert_mp_capable(data: Bytes, *, version: int = 1, flags: int = MP_CAPABLE_HMAC_SHA256) -> bytes:
    """A SYN with the 4-byte MP_CAPABLE of RFC 8684 added as last option; Fast Open data stays.

    The packet gets 4 bytes longer unless padding can make room. Raises PacketError where parse() does, and
    if the packet is no SYN, has a Multipath TCP option already (MP_CAPABLE beside MP_JOIN means nothing),
    is signed or has no room; ValueError for version 0, whose option is another, and for what does not fit a
    field.
    """
    if not (1 <= version <= 15 and 0 <= flags <= 255):
        raise ValueError(f"MP_CAPABLE cannot say version {version}, flags {flags:#x} in 4 bytes")
    packet = _open(data)
    if packet.flags & _STEP != SYN:
        raise PacketError("MP_CAPABLE goes into a SYN, and this is none")
    if any(kind == OPTION_MPTCP for kind, _, _ in packet.spans):
        raise PacketError("SYN has a Multipath TCP option already")
    options = _add(packet, bytes((OPTION_MPTCP, 4, MP_CAPABLE << 4 | version, flags)))
    if len(options) > MAX_OPTIONS:
        raise PacketError("no room for MP_CAPABLE among the TCP options")
    return _with_options(packet, options)


def strip_mp_capable(data: Bytes) -> bytes:
    """The packet without any MP_CAPABLE, whatever its version and size; other options, MPTCP's too, stay.

    The TCP header shrinks. Padding that its end no longer needs goes with the option; what is between other
    options stays. So an insertion that made the packet longer is undone to the byte, another up to padding.
    Raises PacketError where parse() does, and if the segment with the option is signed.
    """
    packet = _open(data)
    capable = [span for span in packet.spans if packet.is_capable(span)]
    if not capable:
        return packet.data
    others = [span for span in packet.spans if span not in capable]
    kept = bytearray(packet.options[: _end(others)])
    for _, start, end in reversed(capable):
        del kept[start:end]  # nothing, for one after the last of the others
    return _with_options(packet, _pad(bytes(kept), packet.options[_end(packet.spans) :]))


def strip_option(data: Bytes, kind: int) -> bytes:
    """The packet with NOPs in place of every option of that kind, as middleboxes do (iptables: TCPOPTSTRIP).

    Raises PacketError where parse() does, and if the segment with the option is signed.
    """
    packet = _open(data)
    options = bytearray(packet.options)
    for found, start, end in packet.spans:
        if found == kind:
            options[start:end] = bytes((OPTION_NOP,)) * (end - start)
    return _with_options(packet, options) if options != packet.options else packet.data


def clamp_mss(data: Bytes, mss: int) -> bytes:
    """The packet with its maximum segment size lowered to ``mss`` bytes; never raised, and none is added.

    Only a SYN or a SYN+ACK is changed. Raises PacketError where parse() does, and if the segment to change is
    signed; ValueError if ``mss`` does not fit the option.
    """
    if not 0 < mss <= 0xFFFF:
        raise ValueError(f"{mss} is not a maximum segment size")
    packet = _open(data)
    if packet.flags & _STEP not in (SYN, SYN | ACK):
        return packet.data
    options = bytearray(packet.options)
    for kind, start, end in packet.spans:
        if kind == OPTION_MSS and end - start == 4 and _U16.unpack_from(options, start + 2)[0] > mss:
            _U16.pack_into(options, start + 2, mss)
    return _with_options(packet, options) if options != packet.options else packet.data
