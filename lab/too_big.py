# SPDX-License-Identifier: GPL-2.0-or-later
"""What a router says of a packet that is too long for its next link."""

import struct

_ICMP, _ICMP6 = 1, 58  # protocol numbers
_UNREACHABLE, _FRAGMENTATION_NEEDED = 3, 4  # RFC 792 and RFC 1191
_PACKET_TOO_BIG = 2  # RFC 4443, section 3.2
_HOPS = 64
_QUOTED4, _QUOTED6 = 548, 1232  # bytes: 576 and 1280 with the headers


def too_big(packet: bytes, mtu: int) -> bytes:
    """The ICMP error for the packet's sender, in the name of its destination: any router will do."""
    if packet[0] >> 4 == 4:
        source, destination = packet[12:16], packet[16:20]
        said = struct.pack("!BBHHH", _UNREACHABLE, _FRAGMENTATION_NEEDED, 0, 0, mtu) + packet[:_QUOTED4]
        said = with_checksum(said, said)
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(said), 0, 0, _HOPS, _ICMP, 0) + destination + source
        return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + said
    source, destination = packet[8:24], packet[24:40]
    said = struct.pack("!BBHI", _PACKET_TOO_BIG, 0, 0, mtu) + packet[:_QUOTED6]
    said = with_checksum(said, destination + source + struct.pack("!II", len(said), _ICMP6) + said)
    return struct.pack("!IHBB", 6 << 28, len(said), _ICMP6, _HOPS) + destination + source + said


def with_checksum(message: bytes, covered: bytes) -> bytes:
    """An ICMP message with the checksum of what it covers."""
    return message[:2] + struct.pack("!H", checksum(covered)) + message[4:]


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    even = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(even[place : place + 2], "big") for place in range(0, len(even), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
