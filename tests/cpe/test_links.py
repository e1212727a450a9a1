# SPDX-License-Identifier: GPL-2.0-or-later
"""Links up and down: what the kernel says of devices in, what has changed out."""

import socket
from dataclasses import replace

from common import config
from common.routing import DeviceState
from cpe.health import Aim
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
        self.named: dict[str, str] = {}
        self.now = 100.0
        self.links = Links(parsed, self.now)

    def look(self) -> list[str]:
        changes = self.links.observe(self.devices.get, self.now, self.named)
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


def test_a_link_that_is_barred_is_down() -> None:
    box = Box(ppp0=PPP, wwan0=WWAN)
    box.look()
    box.links.barred = {"lte": "its 50 GB are used up"}
    assert box.look() == ["lte: its 50 GB are used up"]
    del box.devices["ppp0"]
    box.look()
    assert box.default is None
    del box.devices["wwan0"]
    assert box.look() == ["lte: there is no device 'wwan0'"]
    box.links.barred = {}
    box.devices["wwan0"] = WWAN
    assert box.look() == ["lte: up"]


HAG4, HAG6 = "203.0.113.1", "2001:db8:f::1"


def test_who_is_asked_over_which_link() -> None:
    box = Box(ppp0=PPP, wwan0=WWAN)
    assert box.links.why_unasked(box.lte, [HAG4]) == "the link is down"
    box.look()
    assert box.links.aims([HAG6, HAG4]) == {
        "lte": Aim(12, "198.51.100.66", HAG4),
        "xdsl": Aim(11, "198.51.100.2", HAG4),
    }
    assert box.links.aims([HAG6]) == {"xdsl": Aim(11, "2001:db8:1::2", HAG6)}
    assert box.links.why_unasked(box.lte, [HAG6]) == "the HAG is not known by an address of the link's family"
    assert box.links.aims([]) == {}
    assert box.links.why_unasked(box.lte, []) == "the HAG's address is not known yet"
    del box.devices["ppp0"]
    box.look()
    assert box.links.aims([HAG4]) == {}
    assert box.links.why_unasked(box.lte, [HAG4]) == "there is no other link up"
    box.links.adopt(replace(box.config, probe_interval=0))
    assert box.links.why_unasked(box.lte, [HAG4]) == "probe_interval is 0"


def test_of_several_addresses_the_first_is_asked_as_subflows_go_there() -> None:
    box = Box(ppp0=PPP, wwan0=WWAN)
    box.look()
    aims = box.links.aims([HAG6, "203.0.113.9", HAG4])
    assert [aim.target for aim in aims.values()] == ["203.0.113.9", "203.0.113.9"]


def test_a_link_over_which_nobody_answers_is_down_but_keeps_its_routes() -> None:
    box = Box(ppp0=PPP, wwan0=WWAN)
    box.look()
    health = box.links.health
    health.aim(box.links.aims([HAG4]), box.now)
    for _ in range(200):  # half a second of answers, then none over xdsl
        for probe in health.act(box.now, {}):
            if probe.link == "lte" or box.now < 100.5:
                health.answered(probe.link, probe.sequence, box.now)
        box.now += 0.01
    assert box.look() == ["xdsl: no answer from the HAG for 480 ms"]
    assert box.links.usable(box.xdsl) is None
    assert box.links.states() == {"lte": WWAN, "xdsl": PPP}
    assert box.default == "lte"
    assert box.links.rtt(box.lte, box.now) == 0.0
    assert box.links.rtt(box.sat, box.now) is None
    del box.devices["ppp0"]  # and now for all to see
    assert box.look() == ["xdsl: there is no device 'ppp0'"]
    box.devices["ppp0"] = PPP
    assert box.look() == ["xdsl: up"]
    assert box.links.comes_back(box.now) == box.now + 10


NAMED = TEXT.replace("device 'ppp0'", "interface 'wan'").replace("device 'wwan0'", "interface 'wwan'")


def by_name(**devices: DeviceState) -> Box:
    box = Box(**devices)
    parsed = config.parse(NAMED, "f").cpe
    assert parsed
    box.config, box.links = parsed, Links(parsed, box.now)
    box.lte, box.xdsl, box.sat = parsed.links
    return box


def test_links_that_are_named_as_openwrt_names_networks() -> None:
    box = by_name(ppp0=PPP, wwan0=WWAN)
    assert box.look() == [
        "lte: interface 'wwan' has no device",
        "xdsl: interface 'wan' has no device",
        "sat: there is no device 'sat0'",
    ]
    assert box.links.devices() == {"sat": "sat0"}
    box.named = {"wan": "ppp0", "wwan": "wwan0", "lan": "br-lan"}
    assert box.look() == ["lte: up", "xdsl: up"]
    assert box.links.devices() == {"lte": "wwan0", "xdsl": "ppp0", "sat": "sat0"}
    assert box.links.usable(box.xdsl) == Usable(11, {V4: "198.51.100.2", V6: "2001:db8:1::2"})


def test_a_network_that_gets_another_device() -> None:
    box = by_name(ppp0=PPP, wwan0=WWAN)
    box.named = {"wan": "ppp0", "wwan": "wwan0"}
    box.look()
    box.devices = {"ppp0": PPP, "wwan1": replace(WWAN, index=19)}
    assert box.look() == ["lte: there is no device 'wwan0'"]
    box.named["wwan"] = "wwan1"
    assert box.look() == ["lte: up"]
    assert box.links.usable(box.lte) == Usable(19, {V4: "198.51.100.66"})
    assert box.links.device(box.lte) == "wwan1"
    del box.named["wwan"]
    assert box.look() == ["lte: interface 'wwan' has no device"]
    assert box.links.states().keys() == {"xdsl"}


def test_two_links_on_one_device_are_one() -> None:
    box = by_name(ppp0=PPP, sat0=WWAN)
    box.named = {"wan": "ppp0", "wwan": "ppp0"}
    assert "xdsl: interface 'wan' has device 'ppp0', which is that of link 'lte'" in box.look()
    assert box.links.devices() == {"lte": "ppp0", "sat": "sat0"}
    box.named = {"wan": "sat0", "wwan": "lan"}
    assert box.look() == [
        "lte: interface 'wwan' has device 'lan', which is that of 'list lan'",
        "xdsl: interface 'wan' has device 'sat0', which is that of link 'sat'",
    ]
    assert box.links.usable(box.xdsl) is None


def test_a_link_on_the_device_of_a_lan_is_none() -> None:
    box = by_name(ppp0=PPP)
    box.named = {"wan": "ppp0", "wwan": "br-guest", "guest": "br-guest"}
    parsed = config.parse(NAMED.replace("list lan 'lan'", "list lan_interface 'guest'"), "f").cpe
    assert parsed
    box.links = Links(parsed, box.now)
    assert "lte: interface 'wwan' has device 'br-guest', which is that of interface 'guest'" in box.look()


def test_a_primary_link_that_was_only_slow_is_not_made_to_wait() -> None:
    box = Box(ppp0=PPP, wwan0=WWAN)
    box.look()
    health = box.links.health
    health.aim(box.links.aims([HAG4]), box.now)
    late = []
    for _ in range(200):
        for probe in health.act(box.now, {}):
            if probe.link == "lte" or box.now < 100.5:
                health.answered(probe.link, probe.sequence, box.now)
            else:
                late.append(probe)
        box.now += 0.01
    assert box.look() == ["xdsl: no answer from the HAG for 480 ms"]
    health.answered("xdsl", late[0].sequence, box.now)
    health.act(box.now, {})
    assert box.look() == ["xdsl: up"]
    assert box.default is None
    del box.devices["ppp0"]  # which says nothing of another time
    box.look()
    box.devices["ppp0"] = PPP
    box.look()
    assert box.default == "lte"
