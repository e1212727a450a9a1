# SPDX-License-Identifier: GPL-2.0-or-later
"""SYNs by hand, put onto a device as they are: what no socket would send."""

import json
import socket
import struct
from dataclasses import dataclass

from common import packet
from common.mptcp_option import MP_CAPABLE_HMAC_SHA256, MP_CAPABLE_NO_JOIN_HERE
from lab.fidelity.bench import Bench
from lab.node import Node

CANARY = 4242  # the port that nobody but a test asks for


@dataclass(frozen=True, slots=True)
class Syn:
    """One that a router could have sent: with MP_CAPABLE and flag C."""

    source: str
    destination: str
    dport: int = CANARY
    sport: int = 30000
    seq: int = 0x12345678
    capable: bool = True
    signed: bool = False  # with a TCP-MD5 option

    def packet(self) -> bytes:
        family = socket.AF_INET6 if ":" in self.destination else socket.AF_INET
        addresses = b"".join(socket.inet_pton(family, address) for address in (self.source, self.destination))
        tcp = struct.pack(
            "!HHIIBBHHHBBH", self.sport, self.dport, self.seq, 0, 6 << 4, packet.SYN, 0xFFFF, 0, 0, 2, 4, 1460
        )
        pseudo = addresses + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp))
        tcp = tcp[:16] + checksum(pseudo + tcp) + tcp[18:]
        if family == socket.AF_INET:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, socket.IPPROTO_TCP, 0) + addresses
            header = header[:10] + checksum(header) + header[12:]
        else:
            header = struct.pack("!IHBB", 6 << 28, len(tcp), socket.IPPROTO_TCP, 64) + addresses
        if self.signed:
            return packet.insert_option(header + tcp, packet.OPTION_MD5, bytes(16))
        flags = MP_CAPABLE_HMAC_SHA256 | MP_CAPABLE_NO_JOIN_HERE
        return packet.insert_mp_capable(header + tcp, flags=flags) if self.capable else header + tcp


def checksum(data: bytes) -> bytes:
    """RFC 1071, of an even number of bytes."""
    return (0xFFFF - int.from_bytes(data, "big") % 0xFFFF).to_bytes(2, "big")


class Wire:
    """Puts packets onto a device as they are, for the node at its other end."""

    def __init__(self, bench: Bench, node: Node, device: str, other: Node) -> None:
        with node.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        bench.undo(self._socket.close)
        (link,) = json.loads(other.run(["ip", "-json", "link", "show", device]).stdout)
        has_address = link["link_type"] == "ether"
        self._address = (device, bytes.fromhex(link["address"].replace(":", "")) if has_address else b"")

    def send(self, syn: Syn) -> None:
        self.put(syn.packet())

    def put(self, data: bytes) -> None:
        """From the IP header on."""
        device, address = self._address
        kind = 0x86DD if data[0] >> 4 == 6 else 0x0800
        self._socket.sendto(data, (device, kind, 0, 0, address))
