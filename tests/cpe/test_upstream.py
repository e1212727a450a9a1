# SPDX-License-Identifier: GPL-2.0-or-later
"""What workers know of the primary link, as control tells them."""

import json
import socket

from cpe.upstream import Upstream

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


def told(upstream: Upstream) -> Upstream:
    """As another process has it."""
    other = Upstream()
    other.learn(json.loads(json.dumps(upstream.told())))
    return other


def test_both_families() -> None:
    upstream = Upstream()
    upstream.change({V4: "198.51.100.2", V6: "2001:db8:1::2"}, None)
    for one in (upstream, told(upstream)):
        assert one.lacks(V4) is None
        assert one.lacks(V6) is None
        assert one.address == "198.51.100.2"


def test_one_family() -> None:
    upstream = Upstream()
    upstream.change({V6: "2001:db8:1::2"}, None)
    for one in (upstream, told(upstream)):
        assert one.lacks(V4) == "primary link lacks the address family"
        assert one.lacks(V6) is None
        assert one.address == "0.0.0.0"


def test_a_prefix_for_the_home_and_no_address_for_the_router() -> None:
    upstream = Upstream()
    upstream.change({V4: "198.51.100.2"}, None, {V4, V6})
    for one in (upstream, told(upstream)):
        assert one.lacks(V6) is None
    upstream.change({}, None, {V4, V6})
    assert upstream.lacks(V4) == "primary link lacks the address family"


def test_down() -> None:
    upstream = Upstream()
    upstream.change({V4: "198.51.100.2"}, "primary link is down")
    for one in (upstream, told(upstream)):
        assert one.lacks(V4) == one.lacks(V6) == "primary link is down"


def test_it_comes_back() -> None:
    upstream, other = Upstream(), Upstream()
    upstream.change({}, "primary link is down")
    other.learn(upstream.told())
    upstream.change({V4: "198.51.100.3"}, None)
    other.learn(upstream.told())
    assert other.lacks(V4) is None
    assert other.address == "198.51.100.3"
