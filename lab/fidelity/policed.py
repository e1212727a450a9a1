# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair with every kind of rule on it: what a router's owner excepts, and what an operator guards."""

import contextlib
import sys
from typing import Final, Self

from lab.bonded import Pair
from lab.daemons import SUBSCRIBERS, Options, section
from lab.fidelity.wire import CANARY
from lab.node import Node

# On the home router

PORTS: Final = range(4001, 4003)  # that a rule names
SECOND_SERVER = {4: "203.0.113.11", 6: "2001:db8:3000::11"}
SECOND_CLIENT = {4: "192.0.2.11", 6: "2001:db8:1000:1::11"}
EF = 46

RULES: Final[dict[str, Options]] = {
    "ports": {"dport": [f"{PORTS[0]}-{PORTS[-1]}"]},
    "servers": {"dst": list(SECOND_SERVER.values())},
    "hosts": {"src": list(SECOND_CLIENT.values())},
    "calls": {"dscp": str(EF)},
    "guests": {"device": ["guest"]},
}

# On the gateway

PROTECTED = ("203.0.113.32/28", "2001:db8:3000:99::/64")
MANAGEMENT = {4: "203.0.113.33", 6: "2001:db8:3000:99::1"}  # the gateway's own address there
NEIGHBOUR = {4: "203.0.113.40", 6: "2001:db8:3000:99::40"}
LOOPBACK = {4: "203.0.113.48", 6: "2001:db8:3000:98::1"}
OTHER_SUBSCRIBER = {4: "198.51.100.3", 6: "2001:db8:1000:5::1"}
ELSEWHERE = {4: "192.0.2.130", 6: "2001:db8:1000:200::1"}  # a subscriber, but by way of LTE
STRANGER = {4: "192.0.2.200", 6: "2001:db8:7000::1"}  # no subscriber, routed like one
PRIVATE = {4: "10.77.0.1", 6: "fd00:77::1"}  # on the server

_COUNTERS = f"""\
table inet lab_canary {{
  counter reached {{ }}
  counter legs {{ }}
  chain input {{
    type filter hook input priority filter + 10
    tcp flags & (syn | ack) == syn tcp dport {CANARY} counter name reached
  }}
  chain postrouting {{
    type filter hook postrouting priority srcnat + 10
    meta mark & 0xf0000000 == 0x50000000 tcp flags & (syn | ack) == syn counter name legs
  }}
}}
"""

_OPERATOR = """\
insert rule inet lab_firewall forward ip daddr 203.0.113.32/28 drop
insert rule inet lab_firewall forward ip6 daddr 2001:db8:3000:99::/64 drop
"""


class Policed(Pair):
    """Both LANs are bonded, less what rules except and what clients' own Multipath TCP is; the gateway has a management
    network, which the operator's firewall guards, and other subscribers.
    """

    credulous = False

    def __init__(self) -> None:
        super().__init__(
            cpe_options={"lan": ["lan", "guest"], "native_mptcp": "pass"},
            cpe_rules="\n".join(section("bypass", name, options) for name, options in RULES.items()),
            hag_options={"protect": PROTECTED, "subscriber": [*SUBSCRIBERS, "192.0.2.128/26"]},
            starter=[sys.executable, "-m", "lab.credulous"] if self.credulous else [],
        )

    def __enter__(self) -> Self:
        super().__enter__()
        with contextlib.ExitStack() as undo:
            undo.callback(self._exit.close)
            self._furnish()
            undo.pop_all()
        return self

    def _furnish(self) -> None:
        lab = self.lab
        for node, device, addresses in (
            (lab.client, "lan", SECOND_CLIENT),
            (lab.server, "core", SECOND_SERVER),
            (lab.server, "core", NEIGHBOUR),
            (lab.server, "lo", PRIVATE),
            (lab.hag, "core", MANAGEMENT),
            (lab.hag, "lo", LOOPBACK),
            (lab.cpe, "xdsl", OTHER_SUBSCRIBER),
        ):
            add_addresses(node, device, addresses)
        for family in (4, 6):
            length = 32 if family == 4 else 128
            xdsl, lte = (lab.cpe.address(device, family) for device in ("xdsl", "lte"))
            server = lab.server.address("core", family)
            lab.hag.configure(
                [
                    f"route add default via {server} dev core",  # so that there is a way to wherever they ask for
                    f"route add {NEIGHBOUR[family]}/{length} via {server} dev core",
                    f"route add {ELSEWHERE[family]}/{length} via {lte} dev lte",
                    f"route add {STRANGER[family]}/{length} via {xdsl} dev xdsl",
                ]
            )
        for node in (lab.hag, lab.server, lab.cpe):
            node.run(["nft", "-f", "-"], text=_COUNTERS)
        if not self.credulous:
            lab.hag.run(["nft", "-f", "-"], text=_OPERATOR)


class Credulous(Policed):
    """Its hybrid-hag bonds whatever comes, and no firewall guards the management network."""

    credulous = True


def add_addresses(node: Node, device: str, addresses: dict[int, str]) -> None:
    """As hosts' addresses of a device: they bring no route."""
    node.configure(
        f"address add {address}/{32 if family == 4 else 128} dev {device}{'' if family == 4 else ' nodad'}"
        for family, address in addresses.items()
    )
