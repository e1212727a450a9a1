# SPDX-License-Identifier: GPL-2.0-or-later
"""IPv6 default routes as netifd puts them in: each for the sources of its own access alone (option sourcefilter)."""

from typing import Any

import pytest

from lab.access import Kind
from lab.daemons import cpe_daemon, hag_daemon
from lab.topology import SUBSCRIBER_LANS, Lab
from tests.lab.flows import Flows
from tests.running import until

pytestmark = [pytest.mark.root, pytest.mark.full]

METRIC = 512  # netifd's


def as_netifd_has_them(lab: Lab) -> None:
    """xDSL has the prefix that is delegated to the home; LTE has one of its own, of which the LAN has no part."""
    lab.cpe.run(["ip", "-6", "route", "flush", "default"])
    own = {access: lab.cpe.address(access, 6) for access in ("xdsl", "lte")}
    sources = [("xdsl", SUBSCRIBER_LANS), ("xdsl", own["xdsl"]), ("lte", own["lte"])]
    lab.cpe.configure(
        f"route add default from {source} via {lab.hag.address(access, 6)} dev {access} metric {METRIC}"
        for access, source in sources
    )


def without_an_address(lab: Lab) -> None:
    """The operator has delegated a prefix, and given the router itself no address but the link-local one."""
    for node, address in ((lab.cpe, "fe80::2"), (lab.hag, "fe80::1")):
        node.configure([f"address add {address}/64 dev xdsl nodad"])
    lab.hag.configure([f"route replace {SUBSCRIBER_LANS} via fe80::2 dev xdsl"])
    lab.cpe.configure([f"route replace default from {SUBSCRIBER_LANS} via fe80::1 dev xdsl metric {METRIC}"])
    lab.cpe.configure([f"address del {lab.cpe.address('xdsl', 6)}/64 dev xdsl"])


@pytest.mark.parametrize("address", [True, False])
def test_connections_are_bonded_with_them(address: bool) -> None:
    with Lab(Kind.DIRECT) as lab:
        as_netifd_has_them(lab)
        if not address:
            without_an_address(lab)
        cpe, hag = cpe_daemon(lab, {"join_after": 0, "join_address": [lab.hag.address("lte", 6)]}), hag_daemon(lab)
        hag.start()
        cpe.start()
        assert [link["reason"] for link in cpe.status()["links"]] == [None, None]
        found = [lab.cpe.address(link["name"], 6) in link["addresses"] for link in cpe.status()["links"]]
        assert found == [address, True]
        with Flows(lab) as flows:
            flow = flows.open(6)
            assert flow.bonded_by(hag)

            def links() -> list[str]:
                known: Any = flow.known_to(cpe) or {}
                return sorted(known.get("links", []))

            until(lambda: links() == ["lte", "xdsl"], "the connection uses both")
            flow.exchange(1 << 20)
        assert [cpe.stop(), hag.stop()] == [0, 0]
