# SPDX-License-Identifier: GPL-2.0-or-later
"""What the LAN has got and sent, by the counters of real devices."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any, cast

import pytest

from common import config
from common.config import CpeConfig
from common.loop import Loop
from common.meter import Counters
from cpe.links import Links
from cpe.steering import Allowed
from cpe.traffic import Traffic, _Reading
from lab.netns import Namespace
from tests.running import until

pytestmark = pytest.mark.root


def configured(*lans: str) -> CpeConfig:
    text = "config cpe\n" + "".join(f" list {lan}\n" for lan in lans)
    text += "config link 'xdsl'\n option device 'ppp0'\n option role 'primary'\n"
    text += "config link 'lte'\n option device 'wwan0'\n option role 'secondary'\n"
    parsed = config.parse(text, "f").cpe
    assert parsed
    return parsed


@pytest.fixture
def devices() -> dict[str, str]:
    """Those of the networks with an interface's name."""
    return {"home": "br0"}


@pytest.fixture
def traffic(namespace: Namespace, devices: dict[str, str]) -> Iterator[Traffic]:
    for name in ("br0", "guest0"):
        namespace.configure(
            [f"link add {name} type veth peer name far-{name}", f"link set far-{name} up", f"link set {name} up"]
        )

    def lan(now: CpeConfig) -> list[str]:
        return [*now.lan, *(devices[name] for name in now.lan_interface if name in devices)]

    before, loop = configured("lan_interface home"), Loop()
    with closing(Traffic(loop, before, Links(before, 0.0), cast("Any", None), lan)) as traffic:
        until(lambda: all(counted(name) for name in ("br0", "guest0")), "the kernel sends by devices that are up")
        yield traffic
    loop.close()


def counted(name: str) -> int:
    """What the box has sent by the device: IPv6 begins by itself."""
    with open("/proc/thread-self/net/dev") as file:
        (row,) = (line.partition(":")[2].split() for line in file if line.strip().startswith(f"{name}:"))
    return int(row[8])


def test_a_lan_by_the_name_of_its_interface_counts(traffic: Traffic, devices: dict[str, str]) -> None:
    assert 0 < traffic._lan()[0] <= counted("br0")
    devices.clear()
    assert traffic._lan() == (0, 0)


def test_a_lan_that_a_reload_has_added_counts(
    traffic: Traffic, devices: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "_look", lambda: True)
    devices.clear()
    traffic.adopt(configured("lan guest0"))
    assert 0 < traffic._lan()[0] <= counted("guest0")


def test_a_link_that_waits_for_its_bound_is_not_to_blame(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(traffic._governor, "observe", lambda carried, *_: seen.append(set(carried)))
    up = {"xdsl": 1, "lte": 2}
    traffic._readings = {name: _Reading(0.0, device, Counters(0, 0, 0, 0)) for name, device in up.items()}
    traffic._govern(up, 1.0)
    traffic.steering.restricted = {"lte": (Allowed.FAILOVER_ONLY, "it has carried more than its rate")}
    traffic._govern(up, 2.0)
    assert seen == [{"xdsl", "lte"}, {"xdsl"}]
