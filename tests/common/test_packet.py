# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets written out by hand, scapy as second opinion, and anything that a network may do to bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, TCPOptionsField, in4_chksum
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    in6_chksum,
)
from scapy.packet import Raw
from scapy.utils import checksum

from common.mptcp_option import AddAddr, MpCapable, MpJoin
from common.packet import (
    ACK,
    CWR,
    ECE,
    FIN,
    OPTION_MPTCP,
    OPTION_MSS,
    PSH,
    RST,
    SYN,
    Bytes,
    PacketError,
    Segment,
    TcpOption,
    checksums_ok,
    clamp_mss,
    insert_mp_capable,
    insert_option,
    parse,
    readdress,
    strip_mp_capable,
    strip_option,
)

# Of scapy's functions only some have types.
tcp_layer: Any = TCP
tcp_options_field: Any = TCPOptionsField
ipv6_checksum: Any = in6_chksum

many = settings(max_examples=300, deadline=None)

# What Linux sends when it opens a Multipath TCP connection, RFC 791, RFC 9293 and RFC 8684 figure by figure.
SYN4 = bytes.fromhex(
    "45 00 0040"  # version, header words; type of service; total length
    "1234 4000"  # identification; don't fragment
    "40 06 2a6f"  # time to live; TCP; header checksum
    "c000020a"  # 192.0.2.10
    "cb00710a"  # 203.0.113.10
    "9c40 01bb"  # ports 40000, 443
    "01020304"  # sequence number
    "00000000"
    "b0 02 faf0"  # data offset 11; SYN; window
    "3989 0000"  # checksum; urgent pointer
    "02 04 05b4"  # MSS 1460
    "04 02 08 0a 11223344 00000000"  # SACK permitted, timestamps
    "01 03 03 07"  # NOP, window scale
    "1e 04 01 01"  # MP_CAPABLE, version 1, H
)
SYN6 = bytes.fromhex(
    "60000000"  # version, traffic class, flow label
    "002c 06 40"  # payload length, TCP, hop limit
    "20010db8 10000001 00000000 00000010"
    "20010db8 30000000 00000000 00000010"
    "9c40 01bb 01020304 00000000 b0 02 faf0 9c0b 0000"
    "02 04 05b4 04 02 08 0a 11223344 00000000 01 03 03 07 1e 04 01 01"
)
# The same SYN before the CPE has seen it.
PLAIN4 = bytes.fromhex(
    "45 00 003c 1234 4000 40 06 2a73 c000020a cb00710a"
    "9c40 01bb 01020304 00000000 a0 02 faf0 6892 0000"
    "02 04 05b4 04 02 08 0a 11223344 00000000 01 03 03 07"
)
KEY_A, KEY_B = "a1a2a3a4a5a6a7a8", "b1b2b3b4b5b6b7b8"


def patched(data: bytes, offset: int, new: str) -> bytes:
    """``data`` with the bytes from ``offset`` on replaced by those in hexadecimal."""
    octets = bytes.fromhex(new)
    return data[:offset] + octets + data[offset + len(octets) :]


IPV4 = IP(src="192.0.2.10", dst="203.0.113.10")


def packet(area: bytes | str, flags: int = SYN, payload: bytes = b"", ip: Any = IPV4, **fields: int) -> bytes:
    """A packet built by scapy around an option area that is ours to the byte."""
    octets = bytes.fromhex(area) if isinstance(area, str) else area
    tcp = tcp_layer(flags=flags, dataofs=5 + len(octets) // 4, **fields)
    return bytes(ip / tcp / Raw(octets + payload))


def area(data: bytes) -> str:
    segment = parse(data)
    return data[segment.tcp_offset + 20 : segment.payload_offset].hex()


def payload(data: bytes) -> bytes:
    segment = parse(data)
    return data[segment.payload_offset : segment.length]


def ipv6(extensions: str, header: int) -> bytes:
    """SYN6 with extension headers in front of its TCP header; ``header`` names the first."""
    octets = bytes.fromhex(extensions)
    sizes = (44 + len(octets)).to_bytes(2, "big") + bytes((header, 64))
    return SYN6[:4] + sizes + SYN6[8:40] + octets + SYN6[40:]


HOP_BY_HOP = ipv6("06 00 0104 00000000", 0)

# Reading


def test_syn_over_ipv4() -> None:
    assert parse(SYN4) == Segment(
        family=AF_INET,
        source="192.0.2.10",
        destination="203.0.113.10",
        sport=40000,
        dport=443,
        seq=0x01020304,
        ack=0,
        flags=SYN,
        window=64240,
        dscp=0,
        ecn=0,
        options=(
            TcpOption(2, b"\x05\xb4"),
            TcpOption(4, b""),
            TcpOption(8, b"\x11\x22\x33\x44\0\0\0\0"),
            TcpOption(3, b"\x07"),
            TcpOption(30, b"\x01\x01"),
        ),
        tcp_offset=20,
        payload_offset=64,
        length=64,
        has_ah=False,
    )
    assert checksums_ok(SYN4)


def test_syn_over_ipv6() -> None:
    segment = parse(SYN6)
    assert (segment.family, segment.source, segment.destination) == (
        AF_INET6,
        "2001:db8:1000:1::10",
        "2001:db8:3000::10",
    )
    assert (segment.tcp_offset, segment.payload_offset, segment.length) == (40, 84, 84)
    assert (segment.mss, segment.mp_capable) == (1460, MpCapable(1, 1, None, None))
    assert checksums_ok(SYN6)


def strided(data: bytes) -> memoryview:
    """``data`` as every other byte of something else."""
    return memoryview(b"".join(bytes((octet, 0)) for octet in data))[::2]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, strided])
def test_any_kind_of_buffer(kind: Callable[[bytes], Bytes]) -> None:
    assert parse(kind(SYN4)) == parse(SYN4)
    assert strip_mp_capable(kind(SYN4)) == PLAIN4


def test_link_padding_is_not_payload() -> None:
    assert parse(SYN4 + bytes(6)) == parse(SYN4)
    assert checksums_ok(SYN4 + b"\1\2\3")


def test_dscp_and_ecn() -> None:
    for data in (patched(SYN4, 1, "b9"), patched(SYN6, 0, "6b90")):
        assert (parse(data).dscp, parse(data).ecn) == (46, 1)


@pytest.mark.parametrize(
    ("flags", "is_syn", "is_syn_ack"),
    [
        (SYN, True, False),
        (SYN | ECE | CWR, True, False),
        (SYN | PSH, True, False),
        (SYN | ACK, False, True),
        (SYN | ACK | ECE, False, True),
        (SYN | RST, False, False),
        (SYN | FIN, False, False),
        (SYN | ACK | FIN, False, False),
        (ACK, False, False),
        (0, False, False),
    ],
)
def test_handshake_steps(flags: int, is_syn: bool, is_syn_ack: bool) -> None:
    segment = parse(packet("", flags=flags))
    assert (segment.is_syn, segment.is_syn_ack) == (is_syn, is_syn_ack)


@pytest.mark.parametrize(
    ("flags", "options", "expected"),
    [
        (SYN, "1e040101", MpCapable(1, 0x01, None, None)),
        (SYN, "1e0402a1", MpCapable(2, 0xA1, None, None)),
        (SYN, "1e0c0001" + KEY_A, MpCapable(0, 0x01, 0xA1A2A3A4A5A6A7A8, None)),
        (SYN | ACK, "1e0c0101" + KEY_B, MpCapable(1, 0x01, 0xB1B2B3B4B5B6B7B8, None)),
        (ACK, "1e140181" + KEY_A + KEY_B, MpCapable(1, 0x81, 0xA1A2A3A4A5A6A7A8, 0xB1B2B3B4B5B6B7B8)),
        (
            ACK,
            "1e160101" + KEY_A + KEY_B + "00640101",
            MpCapable(1, 1, 0xA1A2A3A4A5A6A7A8, 0xB1B2B3B4B5B6B7B8),
        ),
        (
            ACK,
            "1e180181" + KEY_A + KEY_B + "0064beef",
            MpCapable(1, 0x81, 0xA1A2A3A4A5A6A7A8, 0xB1B2B3B4B5B6B7B8),
        ),
        (SYN, "1e0c0101" + KEY_A, None),  # version 1 has no key in the SYN
        (SYN, "1e040001", None),  # version 0 has one
        (SYN | ACK, "1e040101", None),
        (SYN | RST, "1e040101", None),
        (ACK, "1e160001" + KEY_A + KEY_B + "00640101", None),  # version 0 has no data length here
        (SYN, "1e05010100000000", None),
        (SYN, "1e030100", None),
        (SYN, "1e020101", None),  # not even a subtype
        (SYN, "1e0401011e040101", None),
        (SYN, "02040101", None),
    ],
)
def test_mp_capable(flags: int, options: str, expected: MpCapable | None) -> None:
    assert parse(packet(options, flags=flags)).mp_capable == expected


@pytest.mark.parametrize(
    ("flags", "options", "expected"),
    [
        (SYN, "1e0c1102" + "01020304" + "0a0b0c0d", MpJoin(True, 2, 0x01020304, 0x0A0B0C0D, None)),
        (SYN, "1e0c1002" + "01020304" + "0a0b0c0d", MpJoin(False, 2, 0x01020304, 0x0A0B0C0D, None)),
        (
            SYN | ACK,
            "1e101003" + KEY_A + "0a0b0c0d",
            MpJoin(False, 3, None, 0x0A0B0C0D, bytes.fromhex(KEY_A)),
        ),
        (ACK, "1e181000" + "5a" * 20, MpJoin(False, None, None, None, b"\x5a" * 20)),
        (SYN | ACK, "1e0c1102" + "01020304" + "0a0b0c0d", None),
        (ACK, "1e101003" + KEY_A + "0a0b0c0d", None),
        (SYN, "1e040101", None),
    ],
)
def test_mp_join(flags: int, options: str, expected: MpJoin | None) -> None:
    assert parse(packet(options, flags=flags)).mp_join == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("1e103005" + "c6336441" + KEY_A, AddAddr(5, "198.51.100.65", None, False, bytes.fromhex(KEY_A))),
        (
            "1e123005" + "c6336441" + "2329" + KEY_A + "0101",
            AddAddr(5, "198.51.100.65", 9001, False, bytes.fromhex(KEY_A)),
        ),
        ("1e083105" + "c6336441", AddAddr(5, "198.51.100.65", None, True, None)),
        ("1e0a3105" + "c6336441" + "2329" + "0101", AddAddr(5, "198.51.100.65", 9001, True, None)),
        (
            "1e1e3007" + "20010db8000000000000000000000001" + "2329" + KEY_A + "0101",
            AddAddr(7, "2001:db8::1", 9001, False, bytes.fromhex(KEY_A)),
        ),
        ("1e143107" + "20010db8000000000000000000000001", AddAddr(7, "2001:db8::1", None, True, None)),
        ("1e083405" + "c6336441", None),  # version 0: address family in place of flags
        ("1e0c3005" + "c6336441" + "00000000", None),
        ("1e033000", None),
        ("1e083105" + "c6336441" + "1e083106" + "c6336442", AddAddr(5, "198.51.100.65", None, True, None)),
    ],
)
def test_add_addr(options: str, expected: AddAddr | None) -> None:
    assert parse(packet(options, flags=ACK)).add_addr == expected


@pytest.mark.parametrize(
    ("options", "mss"),
    [("020405b4", 1460), ("0204ffff", 65535), ("02040000", 0), ("02030501", None), ("01010402", None)],
)
def test_mss(options: str, mss: int | None) -> None:
    assert parse(packet(options)).mss == mss


def test_fast_open_data_is_payload() -> None:
    segment = parse(packet("22020101", payload=b"GET / HTTP/1.1"))
    assert (segment.is_syn, segment.payload_length) == (True, 14)


@pytest.mark.parametrize(
    ("extensions", "header"),
    [
        ("06 00 0104 00000000", 0),  # hop-by-hop options
        ("06 00 0104 00000000", 60),  # destination options
        ("06 01 0108 00000000" + "00" * 8, 60),
        ("06 00 04 00 00000000", 43),  # routing, all segments behind it
        ("06 00 0000 12345678", 44),  # atomic fragment
        ("06 00 0006 12345678", 44),  # with reserved bits that a receiver ignores
        ("3c 00 0104 00000000" + "2c 00 0104 00000000" + "06 00 0000 12345678", 0),
    ],
)
def test_extension_headers_are_skipped(extensions: str, header: int) -> None:
    segment = parse(ipv6(extensions, header))
    assert segment.tcp_offset == 40 + len(bytes.fromhex(extensions))
    assert (segment.sport, segment.dport, segment.mss) == (40000, 443, 1460)
    assert checksums_ok(ipv6(extensions, header))


# An authentication header of 6 words, of which 2 do not count.
AH6 = ipv6("06 04 0000 00000001 00000002" + "00" * 12, 51)


def test_what_is_signed_is_read_but_not_edited() -> None:
    md5, ao, ah = packet("1312" + "00" * 16 + "020405b4" + "0101"), packet("1d040102020405b4"), AH6
    for data in (md5, ao, ah):
        segment = parse(data)
        assert segment.signed
        assert segment.mss == 1460
        assert clamp_mss(data, 1460) == data  # nothing to do
        with pytest.raises(PacketError, match="signed"):
            clamp_mss(data, 1400)
    for data in (md5, ao):
        with pytest.raises(PacketError, match="signed"):
            insert_mp_capable(data)
    with pytest.raises(PacketError, match="signed"):
        strip_mp_capable(ah)
    assert parse(ah).has_ah
    assert not parse(SYN4).signed


REFUSED = [
    ("empty packet", b""),
    ("IP version 5", patched(SYN4, 0, "55")),
    ("IPv4 header is cut short", SYN4[:19]),
    ("IPv4 header of 16 bytes", patched(SYN4, 0, "44")),
    ("IPv4 header of 20 bytes, packet of 65", patched(SYN4, 2, "0041")),
    ("IPv4 header of 20 bytes, packet of 0", patched(SYN4, 2, "0000")),
    ("IPv4 fragment", patched(SYN4, 6, "2000")),
    ("IPv4 fragment", patched(SYN4, 6, "0001")),
    ("protocol 17 is not TCP", patched(SYN4, 9, "11")),
    ("protocol 51 is not TCP", patched(SYN4, 9, "33")),
    ("TCP header is cut short", patched(SYN4, 2, "0027")),
    ("TCP data offset 4 ", patched(SYN4, 32, "40")),
    ("TCP data offset 12 ", patched(SYN4, 32, "c0")),
    ("TCP data offset 12 ", patched(SYN4, 32, "c0") + bytes(4)),
    ("TCP option 2 at octet 0 of 24 has a wrong length", patched(SYN4, 41, "00")),
    ("TCP option 2 at octet 0 of 24 has a wrong length", patched(SYN4, 41, "01")),
    ("TCP option 30 at octet 20 of 24 has a wrong length", patched(SYN4, 61, "05")),
    ("TCP option 30 at octet 23 of 24 has a wrong length", patched(SYN4, 60, "0101011e")),
    ("IPv4 source route", packet("", ip=IP(options=[Raw(bytes.fromhex("830704c000020100"))]))),
    ("IPv4 source route", packet("", ip=IP(options=[Raw(bytes.fromhex("01890704c0000201"))]))),
    ("IPv4 option 148 at octet 0 of 4 has a wrong length", packet("", ip=IP(options=[Raw(b"\x94\x05\0\0")]))),
    ("IPv6 header is cut short", SYN6[:39]),
    ("IPv6 packet of 85 bytes, but 84", patched(SYN6, 4, "002d")),
    ("TCP header is cut short", patched(SYN6, 4, "0000")),
    ("IPv6 next header 50 is neither", ipv6("", 50)),
    ("IPv6 next header 59 is neither", ipv6("", 59)),
    ("IPv6 next header 17 is neither", ipv6("11 00 0104 00000000", 60)),
    ("IPv6 fragment", ipv6("06 00 0001 12345678", 44)),
    ("IPv6 fragment", ipv6("06 00 0008 12345678", 44)),
    ("IPv6 source route", ipv6("06 02 04 01" + "00" * 20, 43)),
    ("IPv6 extension header 60 is cut short", patched(ipv6("06 00 0104 00000000", 60), 4, "0007")),
    ("TCP header is cut short", ipv6("06 ff 0104 00000000", 60)),
]


@pytest.mark.parametrize(("reason", "data"), REFUSED)
def test_refusals_say_what_is_wrong(reason: str, data: bytes) -> None:
    with pytest.raises(PacketError, match=reason):
        parse(data)


def test_ipv4_options_are_skipped() -> None:
    router_alert = packet("020405b4", ip=IP(options=[Raw(b"\x94\x04\0\0")]))
    assert (parse(router_alert).tcp_offset, parse(router_alert).mss) == (24, 1460)
    assert checksums_ok(router_alert)


@pytest.mark.parametrize("data", [SYN4, SYN6, HOP_BY_HOP], ids=["ipv4", "ipv6", "hop-by-hop"])
def test_every_truncation_is_refused(data: bytes) -> None:
    for size in range(len(data)):
        with pytest.raises(PacketError):
            parse(data[:size])


@pytest.mark.parametrize("data", [SYN4, SYN6, HOP_BY_HOP], ids=["ipv4", "ipv6", "hop-by-hop"])
def test_a_damaged_byte_breaks_a_checksum(data: bytes) -> None:
    """Ones' complement finds any change of one bit; TCP covers the addresses and all from its header on."""
    tcp = parse(data).tcp_offset
    covered = range(20) if data[0] >> 4 == 4 else range(8, 40)
    for offset in {*covered, *range(tcp, len(data))}:
        with contextlib.suppress(PacketError):
            assert not checksums_ok(patched(data, offset, f"{data[offset] ^ 0x10:02x}"))


# Editing


def test_insertion_and_removal_on_the_wire() -> None:
    assert insert_mp_capable(PLAIN4) == SYN4
    assert strip_mp_capable(SYN4) == PLAIN4
    assert insert_mp_capable(strip_mp_capable(SYN6)) == SYN6


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "1e040101"),
        ("020405b4", "020405b41e040101"),
        ("04020101", "04021e0401010101"),  # padding too short to be of use stays what it was ...
        ("04020000", "04021e0401010000"),  # ... and after the last option
        ("020405b401010101", "020405b41e040101"),  # room at the end: not longer
        ("020405b400000000", "020405b41e040101"),
        ("0402010100000000", "04021e0401010101"),
        ("020405b40101010103030700", "020405b40303071e04010100"),  # room in between: not longer either
        ("0101080a" + "11" * 8, "0101080a" + "11" * 8 + "1e040101"),
        ("fe24" + "11" * 34, "fe24" + "11" * 34 + "1e040101"),
        ("fe20" + "11" * 30 + "01" * 4 + "020405b4", "fe20" + "11" * 30 + "020405b4" + "1e040101"),
    ],
)
def test_where_the_option_goes(before: str, after: str) -> None:
    data = packet(before, payload=b"fast open")
    inserted = insert_mp_capable(data)
    assert area(inserted) == after
    assert payload(inserted) == b"fast open"
    assert checksums_ok(inserted)
    if len(inserted) > len(data):
        assert strip_mp_capable(inserted) == data


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("no room", packet("fe26" + "11" * 36 + "0101")),
        ("no room", packet("0402" + "fe25" + "11" * 35 + "01")),
        ("already", SYN4),
        ("already", packet("1e0c1002" + "00" * 8)),
        ("this is none", packet("", flags=SYN | ACK)),
        ("this is none", packet("", flags=ACK)),
        ("longer than its IP header can say", packet("", payload=bytes(65535 - 40))),
        ("longer than its IP header can say", packet("", payload=bytes(65535 - 20), ip=IPv6())),
    ],
)
def test_insertion_refused(reason: str, data: bytes) -> None:
    with pytest.raises(PacketError, match=reason):
        insert_mp_capable(data)


@pytest.mark.parametrize(("version", "flags"), [(0, 1), (16, 1), (1, 256), (1, -1)])
def test_insertion_of_what_the_option_cannot_say(version: int, flags: int) -> None:
    with pytest.raises(ValueError, match="MP_CAPABLE cannot say"):
        insert_mp_capable(PLAIN4, version=version, flags=flags)


def test_insertion_of_another_version() -> None:
    inserted = insert_mp_capable(PLAIN4, version=2, flags=0xA1)
    assert parse(inserted).mp_capable == MpCapable(2, 0xA1, None, None)


@pytest.mark.parametrize(
    ("flags", "before", "after"),
    [
        (SYN, "1e040101", ""),
        (SYN, "1e0c0001" + KEY_A, ""),
        (SYN | ACK, "020405b41e0c0101" + KEY_B, "020405b4"),
        (ACK, "0101080a" + "11" * 8 + "1e140101" + KEY_A + KEY_B, "0101080a" + "11" * 8),
        (ACK, "0101080a" + "11" * 8 + "1e160101" + KEY_A + KEY_B + "0064" + "0101", "0101080a" + "11" * 8),
        (ACK, "1e160101" + KEY_A + KEY_B + "0064" + "0402", "04020000"),
        (SYN, "04021e0401010000", "04020000"),
        (SYN, "04021e0401010101", "04020101"),
        (SYN, "1e0401010101020405b4" + "0101", "0101020405b40101"),
        (SYN, "1e0401010101030307" + "000000", "0101030307000000"),
        (SYN, "1e040101020405b41e040101", "020405b4"),
        (SYN, "1e0501010003030701010101", "03030701"),  # not a form of MP_CAPABLE, but called so
        (SYN, "1e030100", ""),
        (SYN, "1e0401011e0c1002" + "00" * 8, "1e0c1002" + "00" * 8),
        (ACK, "1e140101" + KEY_A + KEY_B + "1e082001" + "00000001", "1e082001" + "00000001"),
    ],
)
def test_what_removal_leaves(flags: int, before: str, after: str) -> None:
    stripped = strip_mp_capable(packet(before, flags=flags, payload=b"odd"))
    assert area(stripped) == after
    assert payload(stripped) == b"odd"
    assert checksums_ok(stripped)
    assert strip_mp_capable(stripped) == stripped


@pytest.mark.parametrize("options", ["", "020405b4", "1e0c1002" + "00" * 8, "1e020101", "001e040101000000"])
def test_nothing_to_remove(options: str) -> None:
    data = packet(options) + b"link padding"
    assert strip_mp_capable(data) == data


def test_an_edit_leaves_link_padding_out() -> None:
    assert strip_mp_capable(SYN4 + bytes(6)) == PLAIN4
    assert insert_mp_capable(PLAIN4 + bytes(6)) == SYN4


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (30, "020405b41e040101", "020405b401010101"),
        (30, "1e0c1002" + "00" * 8 + "1e040101", "01" * 16),
        (8, "0402080a" + "11" * 8 + "01030307", "0402" + "01" * 10 + "01030307"),
        (2, "1e040101", "1e040101"),
        (2, "1e04010100020405", "1e04010100020405"),  # past the end of options
    ],
)
def test_option_overwritten_in_place(kind: int, before: str, after: str) -> None:
    stripped = strip_option(packet(before, flags=PSH | ACK, payload=b"odd"), kind)
    assert area(stripped) == after
    assert payload(stripped) == b"odd"
    assert checksums_ok(stripped)


@pytest.mark.parametrize(
    ("flags", "before", "after"),
    [
        (SYN, "020405b4", "02040578"),
        (SYN | ACK, "0402020405b40101", "0402020405780101"),
        (SYN, "020405b402040590", "0204057802040578"),
        (SYN, "02040578", "02040578"),
        (SYN, "02040218", "02040218"),
        (SYN, "01010402", "01010402"),
        (SYN, "0205ffffff010101", "0205ffffff010101"),
        (ACK, "020405b4", "020405b4"),
    ],
)
def test_mss_is_lowered_to_1400(flags: int, before: str, after: str) -> None:
    clamped = clamp_mss(packet(before, flags=flags), 1400)
    assert area(clamped) == after
    assert checksums_ok(clamped)


@pytest.mark.parametrize(
    ("before", "destination", "dport"),
    [(SYN4, "203.0.113.255", 80), (SYN4, "0.0.0.0", 1), (SYN6, "2001:db8::f00", 65535)],
)
def test_another_destination(before: bytes, destination: str, dport: int) -> None:
    was = parse(before)
    changed = readdress(before, destination, dport)
    now = parse(changed)
    assert (now.destination, now.dport) == (destination, dport)
    assert now == was._replace(destination=destination, dport=dport)
    assert checksums_ok(changed)
    assert readdress(changed, was.destination, was.dport) == before


def test_no_other_destination_for_what_is_signed() -> None:
    with pytest.raises(PacketError, match="signed"):
        readdress(packet("1312" + "00" * 16 + "0101", flags=SYN), "203.0.113.1", 80)


@pytest.mark.parametrize("mss", [0, -1, 65536])
def test_no_such_mss(mss: int) -> None:
    with pytest.raises(ValueError, match="maximum segment size"):
        clamp_mss(SYN4, mss)


# A second opinion


def mptcp_options() -> st.SearchStrategy[bytes]:
    sizes = {
        0: (4, 12, 20, 22, 24),
        1: (12, 16, 24),
        2: (8, 20),
        3: (8, 10, 16, 18, 20, 28),
        5: (3,),
        8: (4,),
    }
    forms = st.sampled_from([(subtype, size) for subtype in sizes for size in sizes[subtype]])

    def body(form: tuple[int, int]) -> st.SearchStrategy[bytes]:
        subtype, size = form
        low = st.integers(0, 1).map(lambda bit: bytes((subtype << 4 | bit,)))
        rest = st.binary(min_size=size - 3, max_size=size - 3)
        return st.tuples(low, rest).map(lambda parts: option(OPTION_MPTCP, parts[0] + parts[1]))

    return forms.flatmap(body)


def option(kind: int, data: bytes) -> bytes:
    return bytes((kind, 2 + len(data))) + data


def other_options() -> st.SearchStrategy[bytes]:
    # These scapy does not write again as it has read them, if their size is not what it expects.
    unknown = st.integers(2, 255).filter(lambda kind: kind not in (5, 19, 25, 29))
    return st.builds(option, st.sampled_from((2, 3, 4, 8, 34)) | unknown, st.binary(max_size=10))


MSS = st.binary(min_size=2, max_size=2).map(lambda data: option(OPTION_MSS, data))
SACK = st.binary(min_size=16, max_size=16).map(lambda data: option(5, data))
MD5 = st.binary(min_size=16, max_size=16).map(lambda data: option(19, data))
NOP = st.just(b"\x01")
AREA_PARTS = st.lists(NOP | MSS | SACK | MD5 | mptcp_options() | other_options(), max_size=8)


@st.composite
def areas(draw: st.DrawFn) -> bytes:
    """Option areas: whole words, at most ten, padded in any legal way."""
    octets = b""
    for part in draw(AREA_PARTS):
        if len(octets + part) <= 40:
            octets += part
    size = draw(st.integers((len(octets) + 3) // 4, 10)) * 4
    nops = draw(st.integers(0, size - len(octets)))
    return (octets + b"\x01" * nops).ljust(size, b"\0")


@st.composite
def ip_headers(draw: st.DrawFn) -> Any:
    dscp = draw(st.integers(0, 255))
    if draw(st.booleans()):
        options = draw(st.sampled_from((b"", b"\x94\x04\0\0", b"\x01\x94\x04\0\0\0\0\0")))
        address = st.ip_addresses(v=4).map(str)
        return IP(
            src=draw(address),
            dst=draw(address),
            tos=dscp,
            id=draw(st.integers(0, 65535)),
            options=[Raw(options)],
        )
    address = st.ip_addresses(v=6).map(str)
    ip = IPv6(src=draw(address), dst=draw(address), tc=dscp, fl=draw(st.integers(0, 0xFFFFF)))
    for extension in (
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrDestOpt(),
        IPv6ExtHdrRouting(addresses=["2001:db8::1"], segleft=0),
        IPv6ExtHdrFragment(id=7),
    ):
        if draw(st.booleans()):
            ip = ip / extension
    return ip


FLAGS = st.one_of(st.sampled_from((SYN, SYN | ECE | CWR, SYN | ACK, ACK, PSH | ACK)), st.integers(0, 255))
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)


@st.composite
def packets(draw: st.DrawFn, flags: st.SearchStrategy[int] = FLAGS) -> bytes:
    return packet(
        draw(areas()),
        flags=draw(flags),
        payload=draw(st.binary(max_size=40)),
        ip=draw(ip_headers()),
        sport=draw(U16),
        dport=draw(U16),
        seq=draw(U32),
        ack=draw(U32),
        window=draw(U16),
        reserved=draw(st.integers(0, 7)),
        urgptr=draw(U16),
    )


def dissected(data: bytes) -> Any:
    return IP(data) if data[0] >> 4 == 4 else IPv6(data)


def scapy_options(tcp: Any) -> tuple[TcpOption, ...]:
    """Back to bytes, one by one: scapy gives the options that it knows names and numbers."""
    field = tcp_options_field("options", [])
    encoded = [field.i2m(None, [option]) for option in tcp.options if option[0] not in ("NOP", "EOL")]
    return tuple(TcpOption(octets[0], octets[2 : octets[1]]) for octets in encoded)


def with_scapy_checksums(data: bytes) -> bytes:
    """``data`` with both checksums computed afresh by scapy."""
    ip = dissected(data)
    tcp_offset = parse(data).tcp_offset
    head, tcp = bytearray(data[:tcp_offset]), bytearray(data[tcp_offset:])
    tcp[16:18] = b"\0\0"
    if data[0] >> 4 == 4:
        head[10:12] = b"\0\0"
        head[10:12] = checksum(bytes(head)).to_bytes(2, "big")
        tcp[16:18] = in4_chksum(6, ip, bytes(tcp)).to_bytes(2, "big")
    else:
        tcp[16:18] = ipv6_checksum(6, ip[TCP].underlayer, bytes(tcp)).to_bytes(2, "big")
    return bytes(head + tcp)


@many
@given(packets())
def test_scapy_reads_the_same(data: bytes) -> None:
    segment, ip = parse(data), dissected(data)
    tcp = ip[TCP]
    assert (segment.sport, segment.dport, segment.seq, segment.ack) == (
        tcp.sport,
        tcp.dport,
        tcp.seq,
        tcp.ack,
    )
    assert (segment.flags, segment.window) == (int(tcp.flags) & 0xFF, tcp.window)
    assert (segment.source, segment.destination) == (ip.src, ip.dst)
    assert segment.dscp << 2 | segment.ecn == (ip.tos if segment.family == AF_INET else ip.tc)
    assert segment.options == scapy_options(tcp)
    assert data[segment.payload_offset : segment.length] == bytes(tcp.payload)
    assert segment.tcp_offset == len(data) - len(bytes(tcp))
    assert checksums_ok(data)


EDITS: list[Callable[[bytes], bytes]] = [
    insert_mp_capable,
    strip_mp_capable,
    lambda data: strip_option(data, OPTION_MPTCP),
    lambda data: clamp_mss(data, 1000),
]


@many
@given(packets())
def test_scapy_finds_edited_packets_right(data: bytes) -> None:
    for edit in EDITS:
        with contextlib.suppress(PacketError):
            edited = edit(data)
            assert edited == with_scapy_checksums(edited)
            assert bytes(dissected(edited)[TCP].payload) == bytes(dissected(data)[TCP].payload)


def without_mptcp(options: tuple[TcpOption, ...]) -> tuple[TcpOption, ...]:
    return tuple(option for option in options if option.kind != OPTION_MPTCP)


def test_any_option_can_be_inserted() -> None:
    inserted = insert_option(insert_option(PLAIN4, 253, b"abc"), 28, b"\x80\x1e")
    assert checksums_ok(inserted)
    assert parse(inserted).options == (*parse(PLAIN4).options, TcpOption(253, b"abc"), TcpOption(28, b"\x80\x1e"))
    assert strip_option(inserted, 253)[-4:] == inserted[-4:]
    with pytest.raises(PacketError, match="no room"):
        insert_option(inserted, 253, bytes(30))


@many
@given(packets(flags=st.just(SYN)))
def test_an_insertion_is_undone(data: bytes) -> None:
    assume(not parse(data).signed)
    plain = strip_option(data, OPTION_MPTCP)
    before = parse(plain)
    try:
        inserted = insert_mp_capable(plain)
    except PacketError:
        assert sum(2 + len(option.data) for option in before.options) > 36
        return
    assert parse(inserted).options == (*before.options, TcpOption(OPTION_MPTCP, b"\x01\x01"))
    assert len(inserted) <= len(plain) + 4
    stripped = strip_mp_capable(inserted)
    assert parse(stripped).options == before.options
    if len(inserted) > len(plain):
        assert stripped == plain


@many
@given(packets())
def test_removal_takes_mp_capable_and_nothing_else(data: bytes) -> None:
    before = parse(data)
    assume(not before.signed)
    others = [option for option in before.options if option.kind != OPTION_MPTCP]
    not_capable = [
        option
        for option in before.options
        if option.kind != OPTION_MPTCP or not option.data or option.data[0] >> 4 != 0
    ]
    stripped = strip_mp_capable(data)
    assert list(parse(stripped).options) == not_capable
    assert len(stripped) <= len(data)
    assert list(parse(strip_option(data, OPTION_MPTCP)).options) == others


# Anything


PROPERTIES = ("is_syn", "is_syn_ack", "signed", "mss", "mp_capable", "mp_join", "add_addr", "payload_length")


def refuses(function: Callable[[bytes], object], data: bytes) -> bool:
    try:
        function(data)
    except PacketError:
        return True
    return False


def check_totality(data: bytes) -> None:
    """Every function answers or refuses, all refuse alike, and no edit heals or harms a checksum."""
    try:
        segment = parse(data)
    except PacketError:
        assert all(refuses(function, data) for function in (checksums_ok, *EDITS))
        return
    for name in PROPERTIES:
        getattr(segment, name)
    right = checksums_ok(data)
    for edit in EDITS:
        with contextlib.suppress(PacketError):
            assert checksums_ok(edit(data)) == right


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=200))
@example(b"\x60" + bytes(39))
@example(b"\x45" + bytes(19))
def test_any_bytes(data: bytes) -> None:
    check_totality(data)


FLIPS = st.lists(st.tuples(st.integers(0, 199), st.integers(1, 255)), max_size=4)


@many
@given(packets(), FLIPS, st.integers(0, 8))
def test_damaged_packets(data: bytes, flips: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(data[: len(data) - cut])
    for offset, mask in flips:
        damaged[offset % len(damaged)] ^= mask
    check_totality(bytes(damaged))


@pytest.mark.parametrize("data", [SYN4, SYN6, HOP_BY_HOP, AH6], ids=["ipv4", "ipv6", "hop-by-hop", "ah"])
def test_every_value_of_every_byte(data: bytes) -> None:
    for offset in range(len(data)):
        for value in range(256):
            check_totality(patched(data, offset, f"{value:02x}"))
