# SPDX-License-Identifier: GPL-2.0-or-later
"""What a watch hears of, in a real network namespace."""

import select
from collections.abc import Iterator
from contextlib import closing

import pytest

from common.routing import PROTOCOL
from common.watch import Guard, Watch
from lab.netns import Namespace
from tests.running import until

pytestmark = pytest.mark.root


@pytest.fixture
def watch(namespace: Namespace) -> Iterator[Watch]:
    namespace.configure(["link add wan type veth peer name dslam"])
    for device in ("wan", "dslam"):
        namespace.configure([f"link set {device} up addrgenmode none"])  # addresses of its own would come late
    until(lambda: namespace.run(["ip", "link"]).stdout.count("state UP") == 2)  # which the kernel tells when it likes
    with closing(Watch()) as watch:
        yield watch


def heard(watch: Watch) -> bool:
    """Whether anything comes at all, and then whether it counts."""
    return bool(select.select([watch.fileno()], [], [], 5)[0]) and watch.changed()


@pytest.mark.parametrize(
    "change",
    [
        "link set dslam down",
        "link del wan",
        "addr add 192.0.2.1/24 dev wan",
        "addr add 2001:db8::1/64 dev wan nodad",
        "route add 198.51.100.0/24 dev wan",
        "route add 2001:db8:1::/48 dev wan",
        "rule add from 192.0.2.0/24 lookup 99",
        "-6 rule add from 2001:db8::/64 lookup 99",
    ],
)
def test_changes(namespace: Namespace, watch: Watch, change: str) -> None:
    watch.changed()  # what the devices had to say on the way up
    namespace.run(["ip", *change.split()])
    assert heard(watch)
    assert not watch.changed()


def test_our_own_routes_are_no_news(namespace: Namespace, watch: Watch) -> None:
    """Or each answer to a change would be a change."""
    watch.changed()
    namespace.configure([f"route replace 198.51.100.0/24 dev wan table 99 proto {PROTOCOL}"])
    assert not heard(watch)
    namespace.configure([f"route del 198.51.100.0/24 dev wan table 99 proto {PROTOCOL}"])
    assert heard(watch)


def test_more_than_the_socket_holds_is_a_change(namespace: Namespace, watch: Watch) -> None:
    namespace.configure([f"route add 10.{high}.{low}.0/24 dev wan" for high in range(8) for low in range(256)])
    assert heard(watch)
    assert not watch.changed()


@pytest.mark.parametrize("options", ["", "-6"], ids=["IPv4", "IPv6"])
def test_a_guard_hears_of_what_is_ours_when_it_is_taken_out(namespace: Namespace, options: str) -> None:
    namespace.configure(["link set lo up"])
    with closing(Guard()) as guard:
        for protocol, matters in ((PROTOCOL, True), (3, False)):
            for kind, entry in (("rule", "priority 700 lookup 99"), ("route", "default dev lo table 99")):
                for change in ("add", "del"):
                    namespace.run(["ip", *options.split(), kind, change, *entry.split(), "proto", str(protocol)])
                    assert heard(guard) == (matters and change == "del")
