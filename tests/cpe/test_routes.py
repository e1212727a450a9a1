# SPDX-License-Identifier: GPL-2.0-or-later
"""Which rules and routes the links ask for."""

import socket

from common import config, marks
from common.routing import DefaultRoute, DeviceState, Lookup
from cpe.routes import natted, routes, shared

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)

TEXT = """
config cpe 'cpe'
    list lan 'lan'
    option table_base '300'
    option rule_priority '500'
config link 'xdsl'
    option device 'ppp0'
    option role 'primary'
config link 'lte'
    option device 'wwan0'
    option role 'secondary'
"""
PPP = DeviceState(11, {V4: ("198.51.100.2", "198.51.100.3"), V6: ("2001:db8:1::2",)}, {V4: None, V6: "fe80::1"})
WWAN = DeviceState(12, {V4: ("198.51.100.66",), V6: ()}, {V4: "198.51.100.65"})

parsed = config.parse(TEXT, "f").cpe
assert parsed
CPE = parsed
XDSL, LTE = CPE.links

BY_XDSL = [
    DefaultRoute(301, V4, 11, None),
    Lookup(502, 301, V4, source="198.51.100.2"),
    Lookup(502, 301, V4, source="198.51.100.3"),
    Lookup(504, 301, V4, mark=marks.server_leg(0)),
    DefaultRoute(301, V6, 11, "fe80::1"),
    Lookup(502, 301, V6, source="2001:db8:1::2"),
    Lookup(504, 301, V6, mark=marks.server_leg(0)),
]
BY_LTE = [
    DefaultRoute(302, V4, 12, "198.51.100.65"),
    Lookup(502, 302, V4, source="198.51.100.66"),
    Lookup(504, 302, V4, mark=marks.server_leg(1)),
    Lookup(504, 302, V4, mark=marks.began(1)),
]


def test_both_links() -> None:
    assert list(routes(CPE, {"xdsl": PPP, "lte": WWAN}, None)) == BY_XDSL + BY_LTE


def test_a_link_that_is_down_asks_for_nothing_and_leaves_the_others_their_tables() -> None:
    assert list(routes(CPE, {"lte": WWAN}, None)) == BY_LTE
    assert list(routes(CPE, {}, None)) == []


def test_everything_by_lte() -> None:
    assert list(routes(CPE, {"lte": WWAN}, LTE)) == [*BY_LTE, Lookup(508, 302, V4)]


def test_whose_address_tells_where_a_connection_began() -> None:
    assert list(natted(CPE, {"xdsl": PPP, "lte": WWAN})) == [("198.51.100.66", 1)]
    assert list(natted(CPE, {"xdsl": PPP})) == []


def test_an_address_that_several_links_have_is_the_primary_ones_or_else_the_first_ones() -> None:
    """As two modems that route by themselves have, and nftables takes no key twice."""
    sat = "config link 'sat'\n option device 'usb0'\n option role 'secondary'\n"
    text = TEXT.replace("config link 'xdsl'", f"{sat}config link 'xdsl'")
    cpe = config.parse(text, "f").cpe
    assert cpe
    same = {V4: ("192.168.8.100",), V6: ()}
    stick, other = (DeviceState(index, same, {V4: "192.168.8.1"}) for index in (13, 14))
    assert list(natted(cpe, {"xdsl": PPP, "lte": stick, "sat": other})) == [("192.168.8.100", 0)]
    assert shared(cpe, {"xdsl": PPP, "lte": stick, "sat": other}) == {"192.168.8.100": ["sat", "lte"]}
    assert list(natted(cpe, {"xdsl": PPP, "lte": stick})) == [("192.168.8.100", 2)]
    assert shared(cpe, {"xdsl": PPP, "lte": stick}) == {}
    assert list(natted(cpe, {"xdsl": stick, "lte": other})) == []
    assert shared(cpe, {"xdsl": stick, "lte": other}) == {"192.168.8.100": ["xdsl", "lte"]}
    twice = DeviceState(12, {V4: ("192.168.8.100", "192.168.8.100")}, {V4: None})
    assert list(natted(cpe, {"lte": twice})) == [("192.168.8.100", 2)]
    assert shared(cpe, {"lte": twice}) == {}
