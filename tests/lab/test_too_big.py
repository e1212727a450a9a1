# SPDX-License-Identifier: GPL-2.0-or-later
"""ICMP errors as scapy builds them."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet, Raw

from lab.too_big import too_big


@pytest.mark.parametrize("size", [1, 300, 1401])
def test_ipv4(size: int) -> None:
    packet = bytes(IP(src="192.0.2.1", dst="203.0.113.9", flags="DF") / TCP(sport=1, dport=2) / Raw(bytes(size)))
    wanted: Packet = IP(src="203.0.113.9", dst="192.0.2.1", id=0) / ICMP(type=3, code=4, nexthopmtu=1400)
    assert too_big(packet, 1400) == bytes(wanted / Raw(packet[:548]))


@pytest.mark.parametrize("size", [1, 300, 1401])
def test_ipv6(size: int) -> None:
    packet = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(sport=1, dport=2) / Raw(bytes(size)))
    wanted: Packet = IPv6(src="2001:db8::2", dst="2001:db8::1", hlim=64) / ICMPv6PacketTooBig(mtu=1400)
    assert too_big(packet, 1400) == bytes(wanted / Raw(packet[:1232]))
