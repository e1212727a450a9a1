# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the LAN's SYNs are bonded: real packets and a real configuration in, the decision out."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from common import config, packet
from common.packet import Segment
from common.role import Decision
from cpe.intercept import Interception

BASE = """
config cpe 'cpe'
    list lan 'lan'
    list lan 'br-guest'
config link 'xdsl'
    option device 'xdsl0'
    option role 'primary'
"""
GATEWAY = (30, bytes((0x01, 0x21)))  # as a HAG sends it: flag C, no joins here
NATIVE = (30, bytes((0x01, 0x01)))
OLD = (30, bytes((0x00, 0x81)) + bytes(range(8)))


def everything(_family: int) -> str | None:
    """A primary link that lacks nothing."""
    return None


def interception(bypass: str = "", lacks: Callable[[int], str | None] = everything) -> Interception:
    parsed = config.parse(BASE + bypass, "f").cpe
    assert parsed
    return Interception(parsed, lacks, lambda index: {1: "lan", 2: "br-guest"}.get(index, ""))


def decide(rules: Interception, syn: Segment, device: int = 1) -> str | None:
    return rules.decide(syn, device).passed


def syn(destination: str, dport: int = 443, source: str = "", tos: int = 0, **tcp: Any) -> Segment:
    header = TCP(sport=40000, dport=dport, flags="S", **tcp)
    if ":" in destination:
        return packet.parse(bytes(IPv6(src=source or "2001:db8::10", dst=destination, tc=tos) / header))
    return packet.parse(bytes(IP(src=source or "192.168.1.10", dst=destination, tos=tos) / header))


@pytest.mark.parametrize(
    "destination", ["198.51.100.1", "100.128.0.1", "172.32.0.1", "11.0.0.0", "2001:db8::1", "2a00::1"]
)
def test_bonded(destination: str) -> None:
    assert decide(interception(), syn(destination)) is None


@pytest.mark.parametrize(
    "destination",
    [
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.1.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:198.51.100.1",
        "fc00::1",
        "fd00:1::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_no_hag_on_the_way(destination: str) -> None:
    assert decide(interception(), syn(destination)) == "private or special destination"


@pytest.mark.parametrize(
    ("family", "destination"), [(socket.AF_INET6, "198.51.100.1"), (socket.AF_INET, "2001:db8::1")]
)
def test_a_family_that_the_primary_link_does_not_have(family: int, destination: str) -> None:
    rules = interception(lacks=lambda asked: None if asked == family else "why")
    assert decide(rules, syn(destination)) == "why"
    assert decide(interception(), syn(destination)) is None


@pytest.mark.parametrize(
    ("option", "matching", "other"),
    [
        ("list dport '5060-5061'", syn("198.51.100.1", 5060), syn("198.51.100.1", 5062)),
        ("list dport '5060-5061'", syn("198.51.100.1", 5061), syn("198.51.100.1", 5059)),
        ("list dst '203.0.113.0/24'", syn("203.0.113.9"), syn("198.51.100.1")),
        ("list dst '2001:db8:5::/48'", syn("2001:db8:5::1"), syn("2001:db8:6::1")),
        ("list src '192.168.1.64/26'", syn("198.51.100.1", source="192.168.1.70"), syn("198.51.100.1")),
        ("list src '2001:db8::99'", syn("2001:db8:5::1", source="2001:db8::99"), syn("2001:db8:5::1")),
        ("option dscp 'ef'", syn("198.51.100.1", tos=46 << 2 | 1), syn("198.51.100.1", tos=34 << 2)),
        ("option dscp 'be'", syn("2001:db8:5::1", tos=3), syn("2001:db8:5::1", tos=4)),
    ],
)
def test_a_bypass_rule(option: str, matching: Segment, other: Segment) -> None:
    rules = interception(f"config bypass 'why'\n    {option}\n")
    assert decide(rules, matching) == "bypass 'why'"
    assert decide(rules, other) is None


def test_a_bypass_rule_asks_for_everything_it_names() -> None:
    rules = interception(
        "config bypass 'sip'\n list dport '5060'\n list dport '5061'\n"
        " list dst '203.0.113.0/24'\n list src '192.168.1.0/25'\n"
    )
    assert decide(rules, syn("203.0.113.9", 5061, "192.168.1.5")) == "bypass 'sip'"
    assert decide(rules, syn("203.0.113.9", 443, "192.168.1.5")) is None
    assert decide(rules, syn("198.51.100.1", 5060, "192.168.1.5")) is None
    assert decide(rules, syn("203.0.113.9", 5060, "192.168.1.200")) is None


def test_a_bypass_rule_for_a_device() -> None:
    rules = interception("config bypass 'guests'\n list device 'br-guest'\n list dport '80-443'\n")
    assert decide(rules, syn("198.51.100.1", 443), device=2) == "bypass 'guests'"
    assert decide(rules, syn("198.51.100.1", 444), device=2) is None
    assert decide(rules, syn("198.51.100.1", 443), device=1) is None
    assert decide(rules, syn("198.51.100.1", 443), device=3) is None  # gone by now


def test_a_device_has_the_name_that_it_has_now() -> None:
    names: dict[int, str] = {}
    parsed = config.parse(BASE + "config bypass 'guests'\n list device 'br-guest'\n", "f").cpe
    assert parsed
    rules = Interception(parsed, everything, lambda index: names.get(index, ""))
    assert decide(rules, syn("198.51.100.1"), device=7) is None
    names[7] = "br-guest"
    assert decide(rules, syn("198.51.100.1"), device=7) == "bypass 'guests'"


def test_nobody_is_asked_for_names_that_no_rule_needs() -> None:
    parsed = config.parse(BASE + "config bypass 'a'\n list dport '22'\n list device 'lan'\n", "f").cpe
    assert parsed
    asked: list[int] = []
    rules = Interception(parsed, everything, lambda index: asked.append(index) or "lan")  # type: ignore[func-returns-value]
    assert decide(rules, syn("198.51.100.1", 23)) is None
    assert asked == []
    assert decide(rules, syn("198.51.100.1", 22)) == "bypass 'a'"
    assert asked == [1]


@pytest.mark.parametrize("option", [bytes((0x01, 0x01)), bytes((0x00, 0x81)) + bytes(8)], ids=["v1", "v0"])
def test_clients_that_speak_multipath_tcp_themselves(option: bytes) -> None:
    native = syn("198.51.100.1", options=[(30, option)])
    assert decide(interception(), native) is None
    for value, passed in (("bond", None), ("pass", "the client's own Multipath TCP")):
        parsed = config.parse(BASE.replace("config link", f" option native_mptcp '{value}'\nconfig link"), "f").cpe
        assert parsed
        rules = Interception(parsed, everything, str)
        assert decide(rules, native) == passed
        assert decide(rules, syn("198.51.100.1")) is None


def test_the_first_rule_that_matches_is_the_reason() -> None:
    rules = interception("config bypass 'a'\n list dport '22'\nconfig bypass 'b'\n list dport '20-30'\n")
    assert decide(rules, syn("198.51.100.1", 22)) == "bypass 'a'"
    assert decide(rules, syn("198.51.100.1", 23)) == "bypass 'b'"


def inbound(syn: Segment, bypass: str = "") -> tuple[str | None, bool]:
    decision = interception(bypass).decide_inbound(syn, 9)
    return decision.passed, decision.untouched


@pytest.mark.parametrize(
    ("source", "destination"), [("203.0.113.7", "192.168.1.10"), ("2001:db8:3::7", "2001:db8::10")]
)
def test_from_the_internet_what_a_gateway_sends_is_bonded(source: str, destination: str) -> None:
    assert inbound(syn(destination, source=source, options=[GATEWAY])) == (None, False)


@pytest.mark.parametrize("options", [[NATIVE], [OLD]], ids=["native", "version 0"])
def test_from_the_internet_hosts_that_speak_multipath_tcp_have_it_with_each_other(options: list[Any]) -> None:
    assert inbound(syn("2001:db8::10", source="2001:db8:3::7", options=options)) == (
        "not a gateway's Multipath TCP",
        True,
    )


def test_from_the_internet_nothing_is_bonded_without_the_option() -> None:
    assert inbound(syn("2001:db8::10", source="2001:db8:3::7")) == ("no MP_CAPABLE", False)


def test_bypass_holds_for_what_comes_from_the_internet_and_takes_the_option_out() -> None:
    rule = "config bypass 'mail'\n    list dport '25'\n    list dst '192.168.1.10'\n"
    mail = syn("192.168.1.10", 25, source="203.0.113.7", options=[GATEWAY])
    assert inbound(mail, rule) == ("bypass 'mail'", False)
    assert inbound(syn("192.168.1.10", 80, source="203.0.113.7", options=[GATEWAY]), rule) == (None, False)


POLICIES = """
config policy 'games'
    option steering 'smallest-delay'
    list dport '27000-27100'
config policy 'bulk'
    option steering 'always'
    option dscp 'cs1'
config bypass 'calls'
    list dport '27050'
"""


@pytest.mark.parametrize(
    ("segment", "policy"),
    [
        (syn("198.51.100.1", 27000), "policy 'games'"),
        (syn("198.51.100.1", 27001, tos=8 << 2), "policy 'games'"),
        (syn("2001:db8:5::1", 80, tos=8 << 2), "policy 'bulk'"),
        (syn("198.51.100.1", 80), ""),
    ],
)
def test_the_first_policy_that_matches_is_the_connections(segment: Segment, policy: str) -> None:
    assert interception(POLICIES).decide(segment, 1) == Decision(policy=policy)


def test_what_is_bypassed_has_no_policy() -> None:
    assert interception(POLICIES).decide(syn("198.51.100.1", 27050), 1) == Decision("bypass 'calls'")


def test_a_policy_holds_for_what_comes_from_the_internet() -> None:
    game = syn("192.168.1.10", 27000, source="203.0.113.7", options=[GATEWAY])
    assert interception(POLICIES).decide_inbound(game, 9) == Decision(policy="policy 'games'")
