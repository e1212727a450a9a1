# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a SYN went before a port forward: its mark in, address and port out."""

import socket
import struct

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from common import marks, packet
from cpe.forwards import forwarded_from

ADDRESS = "198.51.100.2"
SYN = packet.parse(bytes(IP(src="203.0.113.7", dst="192.168.1.10") / TCP(sport=40000, dport=8080, flags="S")))


def mark(port: int) -> int:
    """As the kernel has it: the two bytes of the port, in network byte order, where the mark's lower half is."""
    (half,) = struct.unpack("=H", struct.pack("!H", port))
    return marks.GATE_INBOUND | half


@pytest.mark.parametrize("port", [1, 80, 443, 8080, 65535])
def test_forwarded(port: int) -> None:
    assert forwarded_from(lambda: ADDRESS)(SYN, mark(port)) == (ADDRESS, port)
    assert SYN.family == socket.AF_INET


def test_not_forwarded() -> None:
    assert forwarded_from(lambda: ADDRESS)(SYN, mark(0)) == ("192.168.1.10", 8080)


def test_over_ipv6_the_mark_is_not_ours() -> None:
    syn = packet.parse(bytes(IPv6(src="2001:db8::7", dst="2001:db8:1::10") / TCP(sport=40000, dport=8080, flags="S")))
    assert forwarded_from(lambda: ADDRESS)(syn, mark(80)) == ("2001:db8:1::10", 8080)
