# SPDX-License-Identifier: GPL-2.0-or-later
"""For whom and to where the HAG opens connections: real packets in, the decision out."""

from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from common import config, packet
from common.packet import Segment
from common.prefixes import Prefixes
from common.role import Decision
from hag.admit import Admission, InboundAdmission, closed

CONFIG = """
config hag 'hag'
    list access 'xdsl'
    option join_device 'lte'
    list subscriber '198.51.100.0/26'
    list subscriber '2001:db8:1000::/36'
    list protect '203.0.113.0/28'
    list protect '10.0.0.0/8'
    list protect '2001:db8:3000::/48'
    list protect '198.51.100.32/28'
    list protect '2001:db8:1000:99::/64'
"""

SUBSCRIBER4, SUBSCRIBER6 = "198.51.100.2", "2001:db8:1000:1::10"
MP_CAPABLE = (30, bytes((0x01, 0x21)))  # as a CPE sends it: flag C, no joins here; flag H, HMAC-SHA256
NATIVE = (30, bytes((0x01, 0x01)))
CHECKSUMS = (30, bytes((0x01, 0xA1)))
OLD = (30, bytes((0x00, 0x81)) + bytes(range(8)))  # version 0 has a key here


def decision(syn: Segment, more: str = "") -> Decision:
    parsed = config.parse(CONFIG + more, "f").hag
    assert parsed
    return Admission(parsed).decide(syn)


def decide(source: str, destination: str) -> str | None:
    return decision(syn(source, destination)).passed


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


# Addresses that mean what is protected, this host, or its neighbours, in whatever spelling: as many as anybody has
# thought of. 10.0.0.0/8 and 203.0.113.0/28 are protected, the second one by the configuration alone.
PROTECTED = [
    "203.0.113.0",
    "203.0.113.1",
    "203.0.113.15",
    "2001:db8:3000::",
    "2001:db8:3000::1",
    "2001:db8:3000:ffff:ffff:ffff:ffff:ffff",
]
SPELLINGS4 = [
    "0.0.0.0",
    "0.0.0.1",
    "0.255.255.255",
    "10.0.0.0",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.0.0.53",
    "127.1.2.3",
    "127.255.255.254",
    "127.255.255.255",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "224.0.0.1",
    "224.0.0.251",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.254",
    "255.255.255.255",
]
SPELLINGS6 = [
    "::",
    "::1",
    "::2",
    "::127.0.0.1",  # IPv4-compatible
    "::10.0.0.1",
    "::203.0.113.1",
    "::ffff:0.0.0.0",  # IPv4-mapped
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:203.0.113.1",
    "::ffff:198.51.100.1",
    "::ffff:0:127.0.0.1",  # IPv4-translated (RFC 2765)
    "::ffff:0:10.0.0.1",
    "::fffe:10.0.0.1",
    "64:ff9b::",  # NAT64
    "64:ff9b::127.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::203.0.113.1",
    "64:ff9b:1::10.0.0.1",
    "64:ff9b:1:fffe::203.0.113.1",
    "64:ff9b:1:a00:0:100::",  # the /48 with the address around the octet that stays zero (RFC 6052, section 2.2)
    "2001::1",  # Teredo
    "2001:0:a00:1::",
    "2001:0:cb00:7101:0:ffff:f5ff:fffe",
    "2002:7f00:1::",  # 6to4
    "2002:a00:1::1",
    "2002:cb00:7101::1",
    "2002:c0a8:101::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::5efe:10.0.0.1",  # ISATAP
    "fe80::200:5efe:203.0.113.1",
    "febf:ffff::1",
    "2001:db8:4000::5efe:127.0.0.1",
    "2001:db8:4000::5efe:10.0.0.1",
    "2001:db8:4000::200:5efe:203.0.113.1",
    "2a00:1:2:3:0:5efe:cb00:7101",
    "fec0::1",
    "feff:ffff::1",
    "ff00::",
    "ff01::1",
    "ff02::1",
    "ff02::2",
    "ff02::1:ff00:1",
    "ff05::2",
    "ff0e::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
]
NEIGHBOURS = ["198.51.100.0", "198.51.100.2", "198.51.100.63", "2001:db8:1000:2::1", "2001:db8:1fff::1"]


def subscriber(destination: str) -> str:
    return SUBSCRIBER6 if ":" in destination else SUBSCRIBER4


@pytest.mark.parametrize("destination", PROTECTED)
def test_what_is_protected_is_out_of_reach(destination: str) -> None:
    assert decide(subscriber(destination), destination) == "protected destination"


@pytest.mark.parametrize("destination", [*SPELLINGS4, *SPELLINGS6])
def test_no_spelling_gets_past_it(destination: str) -> None:
    assert decide(subscriber(destination), destination) == "private or special destination"


@pytest.mark.parametrize("destination", NEIGHBOURS)
def test_other_subscribers_are_forwarded_to(destination: str) -> None:
    assert decide(subscriber(destination), destination) == "destination is a subscriber"


@pytest.mark.parametrize(
    "destination",
    [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "203.0.113.16",
        "223.255.255.255",
        "100::1",
        "2001:1::1",
        "2001:db8:2fff::1",
        "2001:db8:4000::1",
        "2001:db8:4000::5efd:a00:1",
        "2001:db8:4000::100:5efe:a00:1",
        "2003::1",
        "2a00::1",
    ],
)
def test_their_neighbours_are_open(destination: str) -> None:
    assert decide(subscriber(destination), destination) is None


def test_what_the_kernel_is_told_is_the_same() -> None:
    parsed = config.parse(CONFIG, "f").hag
    assert parsed
    closed_to_all = Prefixes(closed(parsed))
    isatap = [address for address in SPELLINGS6 if "5efe" in address and not address.startswith("fe80")]
    for address in [*PROTECTED, *SPELLINGS4, *SPELLINGS6]:
        assert (address in closed_to_all) is (address not in isatap)  # those the table has a rule for


def test_protection_does_not_tell_strangers_what_there_is() -> None:
    assert decide("192.0.2.7", "203.0.113.1") == "not a subscriber"


BOND = "    option native_mptcp 'bond'\n"


@pytest.mark.parametrize(
    ("option", "more", "passed", "untouched"),
    [
        (MP_CAPABLE, "", None, False),
        (CHECKSUMS, "", None, False),
        (NATIVE, "", "not a router's Multipath TCP", True),
        (NATIVE, BOND, None, False),
        (OLD, "", "another version of Multipath TCP", True),
        (OLD, BOND, "another version of Multipath TCP", True),
        ((30, bytes((0x02, 0x21))), BOND, "another version of Multipath TCP", True),
        (("MSS", 1460), "", "no MP_CAPABLE", False),
        ((30, bytes((0x01,))), "", "no MP_CAPABLE", False),  # too short to be one
    ],
    ids=["a router's", "with checksums", "native", "native, bond", "v0", "v0, bond", "v2", "none", "malformed"],
)
def test_whose_multipath_tcp_it_is(option: Any, more: str, passed: str | None, untouched: bool) -> None:
    assert decision(syn(SUBSCRIBER4, "192.0.2.1", options=[option]), more) == Decision(passed, untouched)


def test_native_multipath_tcp_is_nobodys_business_but_its_ends() -> None:
    assert decision(syn("192.0.2.7", "203.0.113.1", options=[NATIVE])).untouched
    assert decision(syn("192.0.2.7", "192.0.2.1", options=[NATIVE]), BOND) == Decision("not a subscriber")


def inbound(source: str, destination: str, **tcp: Any) -> Decision:
    parsed = config.parse(CONFIG, "f").hag
    assert parsed
    return InboundAdmission(parsed).decide(syn(source, destination, **({"options": []} | tcp)))


@pytest.mark.parametrize(("source", "destination"), [("192.0.2.1", SUBSCRIBER4), ("2001:db8:4000::1", SUBSCRIBER6)])
def test_from_the_internet_to_a_subscriber(source: str, destination: str) -> None:
    assert inbound(source, destination) == Decision()


@pytest.mark.parametrize(
    ("source", "destination", "why"),
    [
        ("192.0.2.1", "198.51.100.64", "not a subscriber"),
        ("2001:db8:4000::1", "2001:db8:2000::1", "not a subscriber"),
        ("10.0.0.1", SUBSCRIBER4, "private or special source"),
        ("127.0.0.1", SUBSCRIBER4, "private or special source"),
        ("2002:a00:1::1", SUBSCRIBER6, "private or special source"),
        ("203.0.113.1", SUBSCRIBER4, "protected source"),
        ("2001:db8:3000::1", SUBSCRIBER6, "protected source"),
        ("198.51.100.9", SUBSCRIBER4, "source is a subscriber"),
        ("192.0.2.1", "198.51.100.32", "protected destination"),
        ("192.0.2.1", "198.51.100.47", "protected destination"),
        ("2001:db8:4000::1", "2001:db8:1000:99::1", "protected destination"),
    ],
)
def test_from_the_internet_what_is_not_bonded(source: str, destination: str, why: str) -> None:
    assert inbound(source, destination).passed == why


def test_from_the_internet_hosts_that_speak_multipath_tcp_have_it_with_each_other() -> None:
    decision = inbound("192.0.2.1", SUBSCRIBER4, options=[NATIVE])
    assert decision.passed
    assert decision.untouched
