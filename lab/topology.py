# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's network: client -- CPE =two accesses= HAG -- server, built and removed as one.

                 lan 192.0.2.0/26             xdsl 198.51.100.0/26             core 203.0.113.0/26
                 2001:db8:1000:1::/64         2001:db8:2000:1::/64             2001:db8:3000::/64
    client .10 ===================== .1 CPE .2 =================== .1 HAG .1 ==================== .10 server
                 guest 192.0.2.64/26          lte 198.51.100.64/26
                 2001:db8:1000:2::/64         2001:db8:2000:2::/64

The guest LAN is not bonded: what the client sends from its guest address is forwarded as ever, so that both
can be measured side by side. Devices have one name at both ends. The CPE masquerades IPv4 and routes IPv6.
TCP's congestion control is the machine's: a namespace may only choose one that the machine allows to all.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from lab import firewall
from lab.access import LTE, XDSL, Access, Kind, Profile, Way
from lab.errors import SystemLacksError
from lab.node import ADDRESSES, Node, connect
from lab.record import RUN_LABS, Record
from lab.signals import terminable, undisturbed

Mark = tuple[float, str]  # what has happened, and when (time.monotonic)

SUBSCRIBER_LANS = "2001:db8:1000::/56"
GUEST_TABLE = 100  # on the client: what its guest address uses

EVERYWHERE = {
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    "ipv6/conf/all/accept_dad": 0,
    "ipv6/conf/default/accept_dad": 0,  # addresses can be used at once
    "ipv6/conf/default/keep_addr_on_down": 1,
}
ROUTER = {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1}


class Lab:
    """A context manager: inside `with Lab() as lab` the network is there, afterwards nothing of it is.

    Removed on success, on any exception, on ^C and on SIGTERM (which raises SystemExit in the main thread),
    half-built ones too. What a lab killed with SIGKILL leaves behind is for `record.clean`.
    Raises SystemLacksError on entering if the machine can't carry a lab, LabError if building it fails.
    """

    def __init__(
        self,
        accesses: Kind = Kind.EMULATED,
        *,
        xdsl: Profile = XDSL,
        lte: Profile = LTE,
        seed: int = 0,
    ) -> None:
        """`seed` decides which packets the emulated accesses lose and delay."""
        self.name = secrets.token_hex(3)
        self._record: Record | None = None
        directory = RUN_LABS / self.name
        self.client, self.cpe, self.hag, self.server = (
            Node(self.name, label, directory / label) for label in ADDRESSES
        )
        self.xdsl = Access(
            "xdsl",
            accesses,
            xdsl,
            self.cpe,
            self.hag,
            cpe_routes=default_routes(self.hag, "xdsl", "metric 100"),
            hag_routes=[subscriber_route(self.cpe, "xdsl")],
            seed=seed,
        )
        self.lte = Access(
            "lte",
            accesses,
            lte,
            self.cpe,
            self.hag,
            cpe_routes=default_routes(self.hag, "lte", "metric 200"),
            seed=seed + 1,
        )
        self._exit = contextlib.ExitStack()

    @property
    def nodes(self) -> tuple[Node, Node, Node, Node]:
        return (self.client, self.cpe, self.hag, self.server)

    @property
    def accesses(self) -> tuple[Access, Access]:
        return (self.xdsl, self.lte)

    def route_subscribers(self, access: Access) -> None:
        """Router and gateway reach each other's networks by way of this access; xDSL unless told."""
        self.hag.configure([subscriber_route(self.cpe, access.name)])
        self.cpe.configure(default_routes(self.hag, access.name, "metric 50"))

    def rates(self, direction: Way, since: float = 0.0, marks: Iterable[Mark] = ()) -> dict[str, Any]:
        """What both emulated accesses have delivered since then (time.monotonic), for `lab.picture` and for reports.

        'mbit' holds Mbit/s for each 'interval' (seconds) by access; 'direction' is the one asked for; 'marks' what has
        happened since then, as [seconds, what], in order of time.
        """
        series = {access.name: access.series() for access in self.accesses}
        interval = series["xdsl"]["interval"]
        # the accesses start within milliseconds of each other; an idle one's series ends early
        first = max(0, int((since - series["xdsl"]["start"]) / interval))
        length = max(len(one[direction]) for one in series.values())
        mbit = {
            name: [
                round(size * 8 / interval / 1e6, 2)
                for size in [*one[direction], *[0] * (length - len(one[direction]))][first:]
            ]
            for name, one in series.items()
        }
        began = series["xdsl"]["start"] + first * interval
        marked = [[round(when - began, 2), what] for when, what in sorted(marks) if when >= began]
        return {"direction": direction, "interval": interval, "mbit": mbit, "marks": marked}

    def __enter__(self) -> "Lab":
        check_system()
        with contextlib.ExitStack() as undo:
            undo.enter_context(terminable())
            undo.callback(self._remove)
            self._build()
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()

    def _remove(self) -> None:
        with undisturbed():
            for node in self.nodes:
                node.stop_processes()
            for access in self.accesses:
                access.close()
            if self._record:
                self._record.remove()

    def _build(self) -> None:
        self._record = Record.create(self.name, tuple(node.name for node in self.nodes))
        for node in self.nodes:
            node.directory.mkdir()
            node.create()
            node.sysctl(EVERYWHERE)
        self.cpe.sysctl(ROUTER)
        self.hag.sysctl(ROUTER)
        for device in ("lan", "guest"):
            connect(self.client, self.cpe, device)
        connect(self.hag, self.server, "core")
        for access in self.accesses:
            access.build()
        route_client(self.client, self.cpe)
        self.server.configure(default_routes(self.hag, "core"))
        self.cpe.run(["nft", "-f", "-"], text=firewall.CPE)
        self.hag.run(["nft", "-f", "-"], text=firewall.HAG)


def subscriber_route(cpe: Node, access: str) -> str:
    """A line of `ip` for the gateway. IPv4 needs none: the router has an address on the access, and NAT."""
    return f"route replace {SUBSCRIBER_LANS} via {cpe.address(access, 6)} dev {access}"


def default_routes(router: Node, device: str, rest: str = "") -> list[str]:
    """Lines of `ip` for default routes of both families by way of `router` on `device`."""
    gateways = [router.address(device, family) for family in (4, 6)]
    return [f"route replace default via {gateway} dev {device} {rest}" for gateway in gateways]


def route_client(client: Node, cpe: Node) -> None:
    """Everything goes by way of the lan, but what has the guest address goes by way of the guest LAN."""
    client.configure(default_routes(cpe, "lan"))
    client.configure(default_routes(cpe, "guest", f"table {GUEST_TABLE}"))
    for family in (4, 6):
        source = client.address("guest", family)
        client.run(["ip", f"-{family}", "rule", "add", "from", source, "lookup", str(GUEST_TABLE)])


def check_system() -> None:
    """Raises SystemLacksError, naming what is missing, if this machine can't carry a lab."""
    if os.geteuid() != 0:
        raise SystemLacksError("the lab makes network namespaces, which only root may do")
    for program in ("ip", "nft", "setpriv"):
        if shutil.which(program) is None:
            raise SystemLacksError(f"the program '{program}' is not installed")
