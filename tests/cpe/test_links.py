# SPDX-License-Identifier: GPL-2.0-or-later
"""Links up and down: what the kernel says of devices in, what has changed out."""

import socket
from dataclasses import replace

from common import config
from common.routing import DeviceState
from cpe.links import Links, Usable

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)

TEXT = """
config cpe 'cpe'
    list lan 'lan'
    option hold '10'
config link 'lte'
    option device 'wwan0'
    option role 'secondary'
config link 'xdsl'
    option device 'ppp0'
    option role 'primary'
config link 'sat'
    option device 'sat0'
    option role 'secondary'
"""

PPP = DeviceState(11, {V4: ("198.51.100.2", "198.51.100.3"), V6: ("2001:db8:1::2",)}, {V4: None, V6: "fe80::1"})
WWAN = DeviceState(12, {V4: ("198.51.100.66",), V6: ()}, {V4: "198.51.100.65"})

NO_ROUTE = "'wwan0' has no default route for its addresses"


class Box:
    """Devices, links and a clock."""

    def __init__(self, **devices: DeviceState) -> None:
        parsed = config.parse(TEXT, "f").cpe
        assert parsed
        self.config = parsed
        self.lte, self.xdsl, self.sat = parsed.links
        self.devices = devices
        self.now = 100.0
        self.links = Links(parsed, self.now)

    def look(self) -> list[str]:
        changes = self.links.observe(self.devices.get, self.now)
        return [f"{change.link.name}: {change.down or 'up'}" for change in changes]

    @property
    def default(self) -> str | None:
        link = self.links.default(self.now)
        return link and link.name


def test_at_the_beginning() -> None:
    box = Box(ppp0=PPP, wwan0=WWAN)
    assert box.look() == ["lte: up", "xdsl: up", "sat: there is no device 'sat0'"]
    assert box.links.usable(box.xdsl) == Usable(11, {V4: "198.51.100.2", V6: "2001:db8:1::2"})
    assert box.links.usable(box.lte) == Usable(12, {V4: "198.51.100.66"})
    assert box.links.usable(box.sat) is None
    assert box.links.down(box.xdsl) is None
    assert box.links.states() == {"lte": WWAN, "xdsl": PPP}
    assert box.default is None
    assert box.look() == []


def test_why_a_link_is_down() -> None:
    box = Box(ppp0=PPP, wwan0=WWAN)
    box.look()
    for state, why in [
        (replace(WWAN, enabled=False, carrier=False), "'wwan0' is switched off"),
        (replace(WWAN, carrier=False), "'wwan0' has no carrier"),
        (DeviceState(12, {V4: (), V6: ()}, {}), "'wwan0' has no address"),
        (
            DeviceState(12, {V4: (), V6: ("2001:db8::1",)}, {V4: "192.0.2.1"}),
            "'wwan0' has no default route for its addresses",
        ),
        (None, "there is no device 'wwan0'"),
    ]:
        box.devices = {"ppp0": PPP, **({"wwan0": state} if state else {})}
        box.now += 1
        assert box.look() == [f"lte: {why}"]
        assert box.links.down(box.lte) == why
        assert box.links.since(box.lte) == box.now
        assert box.links.usable(box.lte) is None


def test_a_device_that_appears_late_under_another_number() -> None:
    box = Box(ppp0=PPP)
    assert "lte: there is no device 'wwan0'" in box.look()
    box.devices["wwan0"] = replace(WWAN, index=99)
    assert box.look() == ["lte: up"]
    assert box.links.usable(box.lte) == Usable(99, {V4: "198.51.100.66"})


def test_another_address_is_no_news_of_up_and_down() -> None:
    box = Box(ppp0=PPP, wwan0=WWAN)
    box.look()
    box.devices["wwan0"] = DeviceState(12, {V4: ("198.51.100.77",), V6: ()}, {V4: "198.51.100.65"})
    assert box.look() == []
    assert box.links.usable(box.lte) == Usable(12, {V4: "198.51.100.77"})


def test_what_is_not_bonded_goes_by_the_first_secondary_link_while_the_primary_is_down() -> None:
    box = Box(ppp0=PPP, wwan0=WWAN, sat0=replace(WWAN, index=13))
    box.look()
    del box.devices["ppp0"]
    box.look()
    assert box.default == "lte"
    del box.devices["wwan0"]
    box.look()
    assert box.default == "sat"
    del box.devices["sat0"]
    box.look()
    assert box.default is None


def test_the_primary_link_gets_everything_back_after_a_while() -> None:
    box = Box(ppp0=PPP, wwan0=WWAN)
    box.look()
    del box.devices["ppp0"]
    box.look()
    box.now, box.devices["ppp0"] = 200.0, PPP
    assert box.look() == ["xdsl: up"]
    assert box.links.comes_back(box.now) == 210.0
    assert box.default == "lte"
    box.now = 205.0  # and goes once more meanwhile
    del box.devices["ppp0"]
    box.look()
    assert box.links.comes_back(box.now) is None
    box.now, box.devices["ppp0"] = 206.0, PPP
    box.look()
    assert box.links.comes_back(box.now) == 216.0
    box.now = 215.9
    assert box.default == "lte"
    box.now = 216.0
    assert box.links.comes_back(box.now) is None
    assert box.default is None


def test_a_primary_link_that_appears_for_the_first_time_is_not_made_to_wait() -> None:
    box = Box(wwan0=WWAN)
    box.look()
    assert box.default == "lte"
    box.devices["ppp0"] = PPP
    box.look()
    assert box.default is None


def test_nobody_waits_for_a_primary_link_where_there_is_no_other() -> None:
    box = Box(ppp0=PPP)
    box.look()
    del box.devices["ppp0"]
    box.look()
    box.devices["ppp0"] = PPP
    box.look()
    assert box.default is None
