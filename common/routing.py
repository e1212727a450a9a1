# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy routing: the rules and tables of a daemon, put in and taken out over rtnetlink.

Everything we add carries our protocol number, so that what a crashed daemon left behind is known from other
people's rules and routes, and goes before ours are added again.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from common import marks
from common.system import SystemLacks, Unavailable, families

PROTOCOL: Final = 72  # of our rules and routes (rtm_protocol, FRA_PROTOCOL); `ip rule` and `ip route` show it
_RT_TABLE_MAIN: Final = 254
_IFF_POINTOPOINT: Final = 0x10
_IFF_NOARP: Final = 0x80
_SCOPE_UNIVERSE: Final = 0
_RTNH_F_ONLINK: Final = 4
_ANYWHERE: Final = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device as routing sees it: its global addresses by family and its default gateway by family.

    A gateway of None is a device that needs none (point to point); a family without a key has no way out there.
    """

    index: int
    addresses: dict[int, tuple[str, ...]]
    gateways: dict[int, str | None]


class Routing:
    """One network namespace's rules and routes. Raises SystemLacks where the kernel refuses."""

    def __init__(self) -> None:
        self._route = IPRoute()

    @property
    def families(self) -> tuple[socket.AddressFamily, ...]:
        return families()

    def close(self) -> None:
        self._route.close()

    def device(self, name: str) -> DeviceState:
        """What the kernel knows of a device now; its default route is looked for in the main table."""
        index = self._index(name)
        point_to_point = self._route.get_links(index)[0]["flags"] & (_IFF_POINTOPOINT | _IFF_NOARP)
        addresses, gateways = {}, {}
        for family in self.families:
            addresses[int(family)] = self._addresses(index, family)
            routes = [route for route in self._defaults(family) if route.get("oif") == index]
            if routes:
                gateways[int(family)] = min(routes, key=lambda route: route.get("priority") or 0).get("gateway")
            elif point_to_point and addresses[int(family)]:
                gateways[int(family)] = None
        return DeviceState(index, addresses, gateways)

    def default_devices(self) -> dict[str, str]:
        """The device of the main table's preferred default route, by "IPv4" and "IPv6"."""
        devices = {}
        for family in self.families:
            routes = [route for route in self._defaults(family) if route.get("oif")]
            if routes:
                best = min(routes, key=lambda route: route.get("priority") or 0)
                name = "IPv4" if family == socket.AF_INET else "IPv6"
                devices[name] = socket.if_indextoname(best.get("oif"))
        return devices

    def _defaults(self, family: int) -> list[Any]:
        # The table is asked for here because pyroute2 0.9 does not pass it on to the kernel.
        routes = self._route.get_default_routes(family=family)
        return [route for route in routes if route.get("table") == _RT_TABLE_MAIN]

    def clean(self) -> None:
        """Removes every rule and route of ours."""
        for family in self.families:
            self._route.flush_rules(family=family, protocol=PROTOCOL)
            self._route.flush_routes(family=family, proto=PROTOCOL)

    def clean_old(self, table: int, priority: int) -> None:
        """Removes what a daemon before us has left, but for what deliver_marked() and replay_marked() put in.

        Its orphaned workers may still have connections, whose packets would pass them by in the meantime.
        """
        for family in self.families:
            rules = self._route.get_rules(family=family, protocol=PROTOCOL)
            for other in {rule.get("priority") for rule in rules} - {priority, priority + 1}:
                self._route.flush_rules(family=family, protocol=PROTOCOL, priority=other)
            routes = self._route.get_routes(family=family, proto=PROTOCOL)
            for other in {route.get("table") for route in routes} - {table}:
                self._route.flush_routes(family=family, proto=PROTOCOL, table=other)

    def deliver_marked(self, table: int, priority: int) -> None:
        """Packets that arrive with the mark DELIVER are for this host, whatever their destination.

        Takes two priorities: this one is for lookups that only look as if a packet had arrived from here, namely the
        reverse path check with src_valid_mark, and replies of sockets that inherit the mark (tcp_fwmark_accept).
        """
        loopback = self._index("lo")
        marked = {"fwmark": marks.DELIVER, "fwmask": marks.MASK, "protocol": PROTOCOL}
        for family in self.families:
            self._do(
                "route",
                "replace",
                family=family,
                dst=_ANYWHERE[family],
                oif=loopback,
                table=table,
                type="local",
                scope=254,
                proto=PROTOCOL,
            )
            self._do("rule", "add", family=family, priority=priority, iifname="lo", table=_RT_TABLE_MAIN, **marked)
            self._do("rule", "add", family=family, priority=priority + 1, table=table, **marked)

    def replay_marked(self, table: int, priority: int) -> None:
        """What this host sends with a mark for that comes back in (see REPLAYED), by deliver_marked()'s table.

        Only what it sends itself: what it forwards may have somebody else's mark with that bit. Takes the second
        priority of deliver_marked(), before all rules by address: an ICMP error for a leg may have any of this host's.
        """
        for family in self.families:
            self._do(
                "rule",
                "add",
                family=family,
                priority=priority + 1,
                iifname="lo",
                table=table,
                fwmark=marks.REPLAYED,
                fwmask=marks.REPLAYED,
                protocol=PROTOCOL,
            )

    def default_through(self, device: DeviceState, family: int, table: int) -> None:
        """The table's only route: everything leaves by this device."""
        gateway = device.gateways[family]
        # onlink: a gateway need not be on a network of the device's, as with many a modem
        next_hop = {} if gateway is None else {"gateway": gateway, "flags": _RTNH_F_ONLINK}
        self._do(
            "route",
            "replace",
            family=family,
            dst=_ANYWHERE[socket.AddressFamily(family)],
            oif=device.index,
            table=table,
            proto=PROTOCOL,
            **next_hop,
        )

    def lookup_from(self, source: str, table: int, priority: int) -> None:
        """What this host sends from ``source`` is routed by ``table``, unless main has more than a default for it."""
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        self._lookup(table, priority, family=family, src=source, src_len=32 if family == socket.AF_INET else 128)

    def lookup_marked(self, family: int, mark: int, table: int, priority: int) -> None:
        """Packets with ``mark`` likewise."""
        self._lookup(table, priority, family=family, fwmark=mark, fwmask=marks.MASK)

    def _lookup(self, table: int, priority: int, **match: Any) -> None:
        """Takes two priorities: this one and the next."""
        self._do(
            "rule",
            "add",
            priority=priority,
            table=_RT_TABLE_MAIN,
            FRA_SUPPRESS_PREFIXLEN=0,
            protocol=PROTOCOL,
            **match,
        )
        self._do("rule", "add", priority=priority + 1, table=table, protocol=PROTOCOL, **match)

    def _index(self, name: str) -> int:
        found = self._route.link_lookup(ifname=name)
        if not found:
            raise Unavailable(f"there is no device '{name}'")
        return int(found[0])

    def _addresses(self, index: int, family: int) -> tuple[str, ...]:
        found = []
        for message in self._route.get_addr(family=family, index=index):
            text = message.get("local") or message.get("address")
            if message["scope"] == _SCOPE_UNIVERSE and not ipaddress.ip_address(text).is_link_local:
                found.append(text)
        return tuple(found)

    def _do(self, kind: str, command: str, **arguments: Any) -> None:
        try:
            getattr(self._route, kind)(command, **arguments)
        except NetlinkError as error:
            if kind == "rule" and error.code == errno.EEXIST:
                return  # word for word
            wanted = ", ".join(f"{name} {value}" for name, value in arguments.items())
            raise SystemLacks(f"the kernel refuses the {kind} ({wanted}): {error}") from None
