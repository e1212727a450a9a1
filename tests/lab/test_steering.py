# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections follow a mode that changes while they run, and each its policy."""

import time
from typing import Any

import pytest

from lab.access import Way
from lab.bonded import Pair
from lab.stream import flowing
from tests.running import until

pytestmark = [pytest.mark.root, pytest.mark.full]

BULK = "config policy 'bulk'\n\toption steering 'always'\n\tlist dport '7100'\n"
WATCHED = 1.0  # seconds
SETTLES = 1.0


def backups(pair: Pair) -> list[str]:
    """Of the one connection that there is, once it has a subflow on each link."""

    def look() -> list[str] | None:
        flows: Any = pair.cpe.control("flows")
        return [flow["backups"] for flow in flows if len(flow["links"]) == 2] or None

    (found,) = until(look, "it has two subflows") or ()
    return list(found)


def lte_share(pair: Pair, way: Way) -> float:
    time.sleep(SETTLES)
    before = {access.name: access.stats()[way]["bytes"] for access in pair.lab.accesses}
    time.sleep(WATCHED)
    moved = {access.name: access.stats()[way]["bytes"] - before[access.name] for access in pair.lab.accesses}
    return moved["lte"] / sum(moved.values())


@pytest.mark.parametrize(("family", "way"), [(4, "down"), (4, "up"), (6, "down"), (6, "up")])
def test_a_mode_that_is_set_holds_for_connections_that_run(family: int, way: Way) -> None:
    with Pair(cpe_options={"steering": "active-standby"}) as pair, flowing(pair.lab, family, way) as stream:
        assert backups(pair) == ["lte"]
        assert lte_share(pair, way) < 0.02
        assert pair.cpe.uses()[-1][1] == "link lte is a backup in mode active-standby: waits until it is the only one"
        answer = pair.cpe.control("steering", set="always")
        assert answer == {"steering": "always", "configured": "active-standby"}
        until(lambda: backups(pair) == [], "LTE carries")
        assert lte_share(pair, way) > 0.3
        text = pair.cpe.config_file.read_text()
        pair.cpe.configure(text.replace("active-standby", "overflow"))
        assert pair.cpe.control("reload")["changed"] == ["option steering"]
        assert pair.cpe.control("policy")["steering"] == "overflow"
        pair.cpe.configure(text)
        assert pair.cpe.control("reload")["changed"] == ["option steering"]
        until(lambda: backups(pair) == ["lte"], "LTE is a backup again")
        assert lte_share(pair, way) < 0.02
        assert stream.end() == 0


@pytest.mark.parametrize("family", [4, 6])
def test_a_policy_has_a_mode_of_its_own(family: int) -> None:
    options = {"steering": "active-standby"}
    with Pair(cpe_options=options, cpe_rules=BULK) as pair, flowing(pair.lab, family, "down") as stream:
        assert backups(pair) == []
        assert lte_share(pair, "down") > 0.3
        pair.cpe.configure(pair.cpe.config_file.read_text().replace(BULK, ""))
        assert pair.cpe.control("reload")["changed"] == ["config policy"]
        until(lambda: backups(pair) == ["lte"], "what had the policy goes by the default")
        assert lte_share(pair, "down") < 0.02
        assert stream.end() == 0


@pytest.mark.parametrize("family", [4, 6])
def test_load_balancing_gives_a_link_to_each_connection(family: int) -> None:
    """Two of five go over xdsl, as its rate is two fifths of both; one at a time, since they share a port."""
    carried = []
    with Pair(cpe_options={"steering": "load-balancing"}) as pair:
        for _ in range(5):
            with flowing(pair.lab, family, "down") as stream:
                (idle,) = backups(pair)
                share = lte_share(pair, "down")
                assert share < 0.02 if idle == "lte" else share > 0.98
                assert stream.end() == 0
            carried.append(idle)
            until(lambda: not pair.cpe.control("flows"), "the connection has ended")
    assert sorted(carried) == ["lte", "lte", "xdsl", "xdsl", "xdsl"]
