# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules and routes in a real kernel: where packets then go, and that nothing of other people is touched."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from common import marks
from common.routing import DefaultRoute, DeviceState, Lookup, Routing
from common.system import SystemLacks
from lab.netns import Namespace
from lab.tun import open_tun

pytestmark = pytest.mark.root

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)
TABLE, PRIORITY = 7200, 720
XDSL, LTE = marks.server_leg(0), marks.server_leg(1)
SERVER = {V4: "203.0.113.10", V6: "2001:db8:f::10"}

# Two accesses with their gateways. The first has two default routes, the better one listed last.
NETWORK = """
link set xdsl up
link set dslam up
link set lte up
link set tower up
addr add 198.51.100.2/26 dev xdsl
addr add 198.51.100.3/26 dev xdsl
addr add 2001:db8:1::2/64 dev xdsl nodad
addr add 198.51.100.66/26 dev lte
addr add 2001:db8:2::2/64 dev lte nodad
route add default via 198.51.100.9 dev xdsl metric 300
route add default via 198.51.100.1 dev xdsl metric 100
route add default via 198.51.100.65 dev lte metric 200
route add default via 2001:db8:1::1 dev xdsl metric 100
route add default via 2001:db8:2::1 dev lte metric 200
route add 192.0.2.0/24 via 198.51.100.5 dev xdsl
"""

# What a daemon must leave alone: also in its own tables and near its priorities.
FOREIGN = """
rule add from 192.0.2.0/24 lookup 7201 priority 721
rule add fwmark 0x100/0xff00 lookup 100 priority 719 protocol 3
route add 192.0.2.128/25 dev lte table 7201 proto static
route add default dev tower table 100
route add 2001:db8:9::/48 dev lte table 7200
"""
FOREIGN_IPV6_RULE = "rule add from 2001:db8:9::/48 lookup 7201 priority 721"


def settle_others(namespace: Namespace) -> None:
    namespace.configure(FOREIGN.strip().splitlines())
    namespace.run(["ip", "-6", *FOREIGN_IPV6_RULE.split()])


@pytest.fixture
def network(namespace: Namespace) -> Namespace:
    namespace.configure(["link add xdsl type veth peer name dslam", "link add lte type veth peer name tower"])
    namespace.configure(NETWORK.strip().splitlines())
    return namespace


@pytest.fixture
def routing(network: Namespace) -> Iterator[Routing]:
    with closing(Routing()) as routing:
        yield routing


def wanted(routing: Routing, *names: str) -> list[DefaultRoute | Lookup]:
    """What the CPE wants for these of two links (cpe/routes.py)."""
    found: list[DefaultRoute | Lookup] = []
    for place, name in enumerate(("xdsl", "lte")):
        state, table = routing.device(name), TABLE + 1 + place
        if name not in names or state is None:
            continue
        for family in (V4, V6):
            found.append(DefaultRoute(table, family, state.index, state.gateways[family]))
            found += [Lookup(PRIORITY + 1, table, family, source=address) for address in state.addresses[family]]
            found.append(Lookup(PRIORITY + 3, table, family, mark=marks.server_leg(place)))
    return found


def install(routing: Routing) -> None:
    routing.clean()
    routing.deliver_marked(TABLE, PRIORITY)
    routing.arrange(wanted(routing, "xdsl", "lte"))


def everything(namespace: Namespace) -> list[str]:
    """All rules and routes."""
    found = []
    for family in ("-4", "-6"):
        for command in (["rule", "show"], ["route", "show", "table", "all"]):
            found += namespace.run(["ip", family, *command]).stdout.splitlines()
    # Link-local addresses come when the kernel has made sure that nobody else has them.
    return sorted(line for line in found if "cache" not in line and "table local" not in line and "fe80::" not in line)


def gateways(routing: Routing, name: str) -> dict[int, str | None]:
    state = routing.device(name)
    assert state
    return state.gateways


def way(namespace: Namespace, *question: str) -> dict[str, Any]:
    (answer,) = json.loads(namespace.run(["ip", "-json", "route", "get", *question]).stdout)
    assert isinstance(answer, dict)
    return answer


def device(namespace: Namespace, *question: str) -> str:
    return str(way(namespace, *question)["dev"])


# What there is


def test_a_device_with_addresses_and_gateways(routing: Routing) -> None:
    assert routing.device("xdsl") == DeviceState(
        socket.if_nametoindex("xdsl"),
        {V4: ("198.51.100.2", "198.51.100.3"), V6: ("2001:db8:1::2",)},
        {V4: "198.51.100.1", V6: "2001:db8:1::1"},
    )


def test_a_device_without_any(routing: Routing) -> None:
    """Its link-local address does not count."""
    assert routing.device("dslam") == DeviceState(socket.if_nametoindex("dslam"), {V4: (), V6: ()}, {})


def test_a_device_whose_gateway_is_link_local(network: Namespace, routing: Routing) -> None:
    network.configure(["route del default via 2001:db8:2::1 dev lte", "route add default via fe80::1 dev lte"])
    assert gateways(routing, "lte") == {V4: "198.51.100.65", V6: "fe80::1"}


def test_defaults_of_other_tables_do_not_count(network: Namespace, routing: Routing) -> None:
    network.configure(["addr add 192.0.2.1/24 dev tower", "route add default via 192.0.2.9 dev tower table 50"])
    assert gateways(routing, "tower") == {}


def test_no_such_device(routing: Routing) -> None:
    assert routing.device("wwan9") is None


def test_a_device_that_is_switched_off_or_has_no_carrier(network: Namespace, routing: Routing) -> None:
    def seen(name: str) -> tuple[bool, bool]:
        state = routing.device(name)
        assert state
        return state.enabled, state.carrier

    assert seen("xdsl") == (True, True)
    network.configure(["link set dslam down"])
    assert seen("xdsl") == (True, False)
    network.configure(["link set xdsl down"])
    assert seen("xdsl") == (False, False)


@pytest.fixture
def ppp(network: Namespace) -> Iterator[str]:
    """A point-to-point device, which needs no gateway."""
    descriptor = open_tun("ppp0")
    network.configure(
        ["link set ppp0 up", "addr add 192.0.2.5 peer 192.0.2.6 dev ppp0", "addr add 2001:db8:3::5 dev ppp0 nodad"]
    )
    yield "ppp0"
    os.close(descriptor)


def test_a_device_that_needs_no_gateway(routing: Routing, ppp: str) -> None:
    state = routing.device(ppp)
    assert state
    assert state.addresses == {V4: ("192.0.2.5",), V6: ("2001:db8:3::5",)}
    assert state.gateways == {V4: None, V6: None}


def test_a_device_that_needs_no_gateway_and_has_a_default_route(network: Namespace, routing: Routing, ppp: str) -> None:
    network.configure(["route add default dev ppp0 metric 5"])
    assert gateways(routing, ppp)[V4] is None


# What is installed


def test_what_is_marked_for_us_is_delivered_whatever_its_destination(network: Namespace, routing: Routing) -> None:
    routing.deliver_marked(TABLE, PRIORITY)
    for server, sender in zip(SERVER.values(), ("198.51.100.9", "2001:db8:1::9"), strict=True):
        arrived = ("from", sender, "iif", "xdsl")
        assert way(network, server, *arrived, "mark", hex(marks.DELIVER))["type"] == "local"
        assert way(network, server, *arrived, "mark", hex(marks.DELIVER | 0xABCDEF))["type"] == "local"
        # What is looked up for this host's own sake goes its way, whatever the mark.
        assert way(network, server, "mark", hex(marks.DELIVER)).get("type") != "local"
        assert way(network, server, "mark", hex(marks.GATE)).get("type") != "local"
        assert way(network, server).get("type") != "local"


def test_what_is_to_begin_again_comes_back_only_if_this_host_sends_it(network: Namespace, routing: Routing) -> None:
    routing.deliver_marked(TABLE, PRIORITY)
    routing.replay_marked(TABLE, PRIORITY)
    network.sysctl({"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
    for server, sender in zip(SERVER.values(), ("198.51.100.9", "2001:db8:1::9"), strict=True):
        for mark in (marks.replay(0), marks.replay(63)):
            assert way(network, server, "mark", hex(mark))["type"] == "local"
        for mark in (marks.REPLAYED, marks.REPLAYED | 0x123, marks.release(32), marks.replay(0)):
            assert way(network, server, "from", sender, "iif", "xdsl", "mark", hex(mark)).get("type") != "local"


@pytest.mark.parametrize("server", SERVER.values())
def test_the_link_of_the_mark(network: Namespace, routing: Routing, server: str) -> None:
    install(routing)
    assert device(network, server, "mark", hex(XDSL)) == "xdsl"
    assert device(network, server, "mark", hex(LTE)) == "lte"
    assert device(network, server, "mark", hex(LTE | 0x1234)) == "lte"
    assert device(network, server) == "xdsl"


@pytest.mark.parametrize(
    ("server", "source", "link"),
    [
        (SERVER[V4], "198.51.100.2", "xdsl"),
        (SERVER[V4], "198.51.100.3", "xdsl"),
        (SERVER[V4], "198.51.100.66", "lte"),
        (SERVER[V6], "2001:db8:1::2", "xdsl"),
        (SERVER[V6], "2001:db8:2::2", "lte"),
    ],
)
def test_the_link_of_the_source_whatever_the_mark(
    network: Namespace, routing: Routing, server: str, source: str, link: str
) -> None:
    """A further subflow has the mark of its connection's first."""
    install(routing)
    for mark in ("0", hex(XDSL), hex(LTE)):
        assert device(network, server, "from", source, "mark", mark) == link


def test_the_gateway_is_the_links(network: Namespace, routing: Routing) -> None:
    install(routing)
    assert way(network, SERVER[V4], "mark", hex(XDSL))["gateway"] == "198.51.100.1"
    assert way(network, SERVER[V6], "mark", hex(LTE))["gateway"] == "2001:db8:2::1"


def test_more_than_a_default_in_the_main_table_comes_first(network: Namespace, routing: Routing) -> None:
    install(routing)
    assert way(network, "192.0.2.1", "mark", hex(LTE))["gateway"] == "198.51.100.5"
    assert device(network, "198.51.100.20", "from", "198.51.100.66") == "xdsl"  # the LAN of the other link


def test_through_a_device_that_needs_no_gateway(network: Namespace, routing: Routing, ppp: str) -> None:
    state = routing.device(ppp)
    assert state
    for family in (V4, V6):
        route = DefaultRoute(TABLE, family, state.index, state.gateways[family])
        routing.arrange([route, Lookup(PRIORITY, TABLE, family, mark=LTE)])
        assert device(network, SERVER[family], "mark", hex(LTE)) == ppp
    routing.clean()


def test_a_gateway_outside_the_devices_networks(network: Namespace, routing: Routing) -> None:
    """Some operators hand out an address of /32 and a gateway elsewhere."""
    route = DefaultRoute(TABLE, V4, socket.if_nametoindex("lte"), "192.88.99.1")
    routing.arrange([route, Lookup(PRIORITY, TABLE, V4, mark=LTE)])
    assert way(network, SERVER[V4], "mark", hex(LTE))["gateway"] == "192.88.99.1"


def test_what_the_kernel_refuses_is_told(routing: Routing) -> None:
    with pytest.raises(SystemLacks, match=r"^the kernel refuses the route .*oif 9999"):
        routing.arrange([DefaultRoute(TABLE, V4, 9999, "198.51.100.1")])


# What changes


def test_what_is_not_wanted_any_more_comes_out(network: Namespace, routing: Routing) -> None:
    settle_others(network)
    routing.arrange(wanted(routing, "xdsl"))
    before = everything(network)
    routing.arrange(wanted(routing, "xdsl", "lte"))
    assert device(network, SERVER[V4], "mark", hex(LTE)) == "lte"
    routing.arrange(wanted(routing, "xdsl"))
    assert everything(network) == before


def test_a_device_that_was_down_gets_its_routes_back(network: Namespace, routing: Routing) -> None:
    """The kernel takes routes out with their device, the rules stay."""
    install(routing)
    before = everything(network)
    network.configure(["link set lte down"])
    assert everything(network) != before
    network.configure(["link set lte up", "addr replace 2001:db8:2::2/64 dev lte nodad"])
    network.configure([line for line in NETWORK.splitlines() if line.startswith("route add default") and "lte" in line])
    routing.arrange(wanted(routing, "xdsl", "lte"))
    assert everything(network) == before


def test_another_gateway_takes_the_place_of_the_first(network: Namespace, routing: Routing) -> None:
    install(routing)
    network.configure(["route del default via 198.51.100.65", "route add default via 198.51.100.70 dev lte metric 200"])
    network.configure(["route del default via 2001:db8:2::1", "route add default via 2001:db8:2::7 dev lte metric 200"])
    routing.arrange(wanted(routing, "xdsl", "lte"))
    assert way(network, SERVER[V4], "mark", hex(LTE))["gateway"] == "198.51.100.70"
    assert way(network, SERVER[V6], "mark", hex(LTE))["gateway"] == "2001:db8:2::7"
    tables = [line for line in everything(network) if f"table {TABLE + 2}" in line and line.startswith("default")]
    assert len(tables) == 2


def test_what_is_gone_with_its_device_is_taken_out_without_complaint(network: Namespace, routing: Routing) -> None:
    routing.arrange(wanted(routing, "xdsl", "lte"))
    network.configure(["link del lte"])
    routing.arrange(wanted(routing, "xdsl"))
    assert routing.device("lte") is None


def test_what_was_put_in_before_a_refusal_comes_out_later(network: Namespace, routing: Routing) -> None:
    before = everything(network)
    with pytest.raises(SystemLacks):
        routing.arrange([*wanted(routing, "lte"), DefaultRoute(TABLE, V4, 9999, "198.51.100.1")])
    assert everything(network) != before
    routing.arrange([])
    assert everything(network) == before


def test_everything_by_another_link(network: Namespace, routing: Routing) -> None:
    """But not what the main table knows better."""
    lte = socket.if_nametoindex("lte")
    routing.arrange([DefaultRoute(TABLE, V4, lte, "198.51.100.65"), Lookup(PRIORITY + 5, TABLE, V4)])
    assert device(network, SERVER[V4]) == "lte"
    assert device(network, SERVER[V4], "from", "198.51.100.2") == "lte"
    assert device(network, "192.0.2.1") == "xdsl"
    assert device(network, SERVER[V6]) == "xdsl"


# What is taken out


def test_all_comes_out_and_other_peoples_stays(network: Namespace, routing: Routing) -> None:
    settle_others(network)
    before = everything(network)
    install(routing)
    assert len(everything(network)) > len(before)
    routing.clean()
    assert everything(network) == before
    routing.clean()
    assert everything(network) == before


def test_what_a_crash_left_is_replaced(network: Namespace, routing: Routing) -> None:
    settle_others(network)
    before = everything(network)
    install(routing)
    once = everything(network)
    with closing(Routing()) as after_crash:
        install(after_crash)
        assert everything(network) == once
        after_crash.clean()
    assert everything(network) == before


def test_what_a_crash_with_another_configuration_left(network: Namespace, routing: Routing) -> None:
    before = everything(network)
    routing.deliver_marked(5000, 500)
    routing.arrange([Lookup(501, 5001, V4, source="198.51.100.2")])
    with closing(Routing()) as after_crash:
        after_crash.clean()
    assert everything(network) == before


def test_clean_on_a_box_without_ipv6(network: Namespace, routing: Routing) -> None:
    network.sysctl({"ipv6/conf/all/disable_ipv6": 1})
    before = everything(network)
    routing.deliver_marked(TABLE, PRIORITY)
    routing.clean()
    assert everything(network) == before
