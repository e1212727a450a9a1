# SPDX-License-Identifier: GPL-2.0-or-later
"""For whom and to where the HAG opens connections: real packets in, the decision out."""

from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from common import config, packet
from common.packet import Segment
from hag.admit import Admission

CONFIG = """
config hag 'hag'
    list access 'xdsl'
    option join_device 'lte'
    list subscriber '198.51.100.0/26'
    list subscriber '2001:db8:1000::/36'
    list protect '203.0.113.0/28'
    list protect '10.0.0.0/8'
    list protect '2001:db8:3000::/48'
"""

SUBSCRIBER4, SUBSCRIBER6 = "198.51.100.2", "2001:db8:1000:1::10"
MP_CAPABLE = (30, bytes((0x01, 0x81)))


def decide(source: str, destination: str) -> str | None:
    parsed = config.parse(CONFIG, "f").hag
    assert parsed
    return Admission(parsed).decide(syn(source, destination)).passed


def syn(source: str, destination: str, **tcp: Any) -> Segment:
    header = TCP(sport=40000, dport=443, flags="S", **({"options": [MP_CAPABLE]} | tcp))
    ip = IPv6 if ":" in source else IP
    return packet.parse(bytes(ip(src=source, dst=destination) / header))


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (SUBSCRIBER4, "192.0.2.1"),
        ("198.51.100.63", "203.0.113.16"),
        (SUBSCRIBER6, "2001:db8:4000::1"),
        ("2001:db8:1fff:ffff::1", "2001:db8:2fff::1"),
    ],
)
def test_a_subscriber_is_bonded(source: str, destination: str) -> None:
    assert decide(source, destination) is None


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("198.51.100.64", "192.0.2.1"),
        ("192.0.2.7", "192.0.2.1"),
        ("2001:db8:2000::1", "2001:db8:4000::1"),
        ("::", "2001:db8:4000::1"),
    ],
)
def test_nobody_else_is(source: str, destination: str) -> None:
    assert decide(source, destination) == "not a subscriber"


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (SUBSCRIBER4, "203.0.113.0"),
        (SUBSCRIBER4, "203.0.113.15"),
        (SUBSCRIBER4, "10.255.255.255"),
        (SUBSCRIBER6, "2001:db8:3000:ffff::1"),
        # Never, whatever the configuration says
        (SUBSCRIBER4, "0.0.0.0"),
        (SUBSCRIBER4, "127.0.0.1"),
        (SUBSCRIBER4, "127.255.255.254"),
        (SUBSCRIBER4, "169.254.169.254"),
        (SUBSCRIBER4, "224.0.0.1"),
        (SUBSCRIBER4, "255.255.255.255"),
        (SUBSCRIBER6, "::"),
        (SUBSCRIBER6, "::1"),
        (SUBSCRIBER6, "::10.0.0.1"),
        (SUBSCRIBER6, "::ffff:10.0.0.1"),
        (SUBSCRIBER6, "64:ff9b::10.0.0.1"),
        (SUBSCRIBER6, "64:ff9b:1::10.0.0.1"),
        (SUBSCRIBER6, "2002:a00:1::1"),
        (SUBSCRIBER6, "fe80::1"),
        (SUBSCRIBER6, "fec0::1"),
        (SUBSCRIBER6, "ff02::1"),
    ],
)
def test_what_is_protected_is_out_of_reach(source: str, destination: str) -> None:
    assert decide(source, destination) == "protected destination"


def test_protection_does_not_tell_strangers_what_there_is() -> None:
    assert decide("192.0.2.7", "203.0.113.1") == "not a subscriber"
