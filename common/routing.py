# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy routing: the rules and tables of a daemon, put in and taken out over rtnetlink.

Everything we add carries our protocol number, so that what a crashed daemon left behind is known from other
people's rules and routes, and goes before ours are added again.

Messages are those of rtnetlink(7), include/uapi/linux/rtnetlink.h, fib_rules.h, if_addr.h.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from common import marks, netlink
from common.netlink import U8, U32, Attributes, Netlink, attribute
from common.system import SystemLacks, Unavailable, families

PROTOCOL: Final = 72  # of our rules and routes (rtm_protocol, FRA_PROTOCOL); `ip rule` and `ip route` show it

_GET_LINK: Final = 18
_GET_ADDRESS: Final = 22
_NEW_ROUTE, _DELETE_ROUTE, _GET_ROUTE = 24, 25, 26
_NEW_RULE, _DELETE_RULE, _GET_RULE = 32, 33, 34

_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=8BI")  # family, destination's and source's length, TOS, table, protocol, scope, type, flags
_RULE = struct.Struct("=8BI")  # the same, with nothing where protocol and scope are; the type is the action

_IFF_UP: Final = 0x1
_IFF_POINTOPOINT: Final = 0x10
_IFF_RUNNING: Final = 0x40
_IFF_NOARP: Final = 0x80
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 4, 5, 6, 15
_RTA_VIA: Final = 18  # a next hop of the other family, which is not for us
_FRA_SOURCE, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK = 2, 3, 6, 10
_FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 14, 15, 16, 21

_TABLE_MAIN: Final = 254
_SCOPE_UNIVERSE, _SCOPE_HOST = 0, 254
_UNICAST, _LOCAL = 1, 2
_TO_TABLE: Final = 1  # FR_ACT_TO_TBL
_ONLINK: Final = 4
_GONE: Final = (errno.ENOENT, errno.ESRCH, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device as routing sees it: its global addresses by family and its default gateway by family.

    A gateway of None is a device that needs none (point to point); a family without a key has no way out there.
    ``enabled`` is what the administrator wants, ``carrier`` what the line says.
    """

    index: int
    addresses: dict[int, tuple[str, ...]]
    gateways: dict[int, str | None]
    enabled: bool = True
    carrier: bool = True


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """The only route of ``table``: everything leaves by the device with this index."""

    table: int
    family: int
    device: int
    gateway: str | None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What matches is routed by ``table``, unless main has more than a default for it. Takes two priorities.

    What matches is what this host sends from ``source``, or packets with ``mark``, or with neither everything.
    """

    priority: int
    table: int
    family: int
    source: str | None = None
    mark: int | None = None


@dataclass(frozen=True, slots=True)
class _Route:
    """As the kernel tells it in ``told``. ``device`` is None for one with several next hops, or with none."""

    told: bytes
    table: int
    device: int | None
    gateway: str | None
    priority: int


@dataclass(frozen=True, slots=True)
class _Rule:
    told: bytes
    priority: int
    for_all: bool  # matches everybody's packets


class Routing:
    """One network namespace's rules and routes. Raises SystemLacks where the kernel refuses."""

    def __init__(self) -> None:
        self._kernel = Netlink(netlink.ROUTE)
        self._arranged: list[DefaultRoute | Lookup] = []

    @property
    def families(self) -> tuple[socket.AddressFamily, ...]:
        return families()

    def close(self) -> None:
        self._kernel.close()

    def device(self, name: str) -> DeviceState | None:
        """What the kernel knows of a device now, if there is one; its default route is looked for in the main table."""
        try:
            index = socket.if_nametoindex(name)
        except OSError:
            return None
        try:
            link = self._kernel.ask(_GET_LINK, _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0))
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise
        flags = _LINK.unpack_from(link)[3]
        point_to_point = flags & (_IFF_POINTOPOINT | _IFF_NOARP)
        addresses: dict[int, tuple[str, ...]] = {}
        gateways: dict[int, str | None] = {}
        for family in self.families:
            addresses[int(family)] = self._addresses(index, family)
            routes = [route for route in self._defaults(family) if route.device == index]
            if routes:
                gateways[int(family)] = min(routes, key=lambda route: route.priority).gateway
            elif point_to_point and addresses[int(family)]:
                gateways[int(family)] = None
        return DeviceState(index, addresses, gateways, bool(flags & _IFF_UP), bool(flags & _IFF_RUNNING))

    def default_devices(self) -> dict[str, str]:
        """The device of the main table's preferred default route, by "IPv4" and "IPv6"."""
        devices = {}
        for family in self.families:
            routes = [route for route in self._defaults(family) if route.device]
            if routes:
                best = min(routes, key=lambda route: route.priority)
                name = "IPv4" if family == socket.AF_INET else "IPv6"
                devices[name] = socket.if_indextoname(best.device or 0)
        return devices

    def clean(self) -> None:
        """Removes every rule and route of ours."""
        for family in self.families:
            for rule in self._our_rules(family):
                self._remove(_DELETE_RULE, rule.told)
            for route in self._our_routes(family):
                self._remove(_DELETE_ROUTE, route.told)

    def clean_old(self, table: int, priority: int) -> None:
        """Removes what a daemon before us has left, but for what deliver_marked() and replay_marked() put in.

        Its orphaned workers may still have connections, whose packets would pass them by in the meantime.
        """
        for family in self.families:
            for rule in self._our_rules(family):
                if rule.priority not in (priority, priority + 1):
                    self._remove(_DELETE_RULE, rule.told)
            for route in self._our_routes(family):
                if route.table != table:
                    self._remove(_DELETE_ROUTE, route.told)

    def clean_detours(self) -> None:
        """Removes the rules by which what is nobody's connection leaves by another device than main says."""
        for family in self.families:
            for rule in self._our_rules(family):
                if rule.for_all:
                    self._remove(_DELETE_RULE, rule.told)

    def deliver_marked(self, table: int, priority: int) -> None:
        """Packets that arrive with the mark DELIVER are for this host, whatever their destination.

        Takes two priorities: this one is for lookups that only look as if a packet had arrived from here, namely the
        reverse path check with src_valid_mark, and replies of sockets that inherit the mark (tcp_fwmark_accept).
        """
        marked = _marked(marks.DELIVER, marks.MASK)
        for family in self.families:
            self._default(family, table, _index("lo"), kind=_LOCAL, scope=_SCOPE_HOST)
            self._put_rule(family, _rule(family, priority, _TABLE_MAIN, marked, _arrives_by("lo")))
            self._put_rule(family, _rule(family, priority + 1, table, marked))

    def replay_marked(self, table: int, priority: int) -> None:
        """What this host sends with a mark for that comes back in (see REPLAYED), by deliver_marked()'s table.

        Only what it sends itself: what it forwards may have somebody else's mark with that bit. Takes the second
        priority of deliver_marked(), before all rules by address: an ICMP error for a leg may have any of this host's.
        """
        for family in self.families:
            replayed = _marked(marks.REPLAYED, marks.REPLAYED)
            self._put_rule(family, _rule(family, priority + 1, table, replayed, _arrives_by("lo")))

    def arrange(self, wanted: Iterable[DefaultRoute | Lookup]) -> None:
        """Puts in what is wanted and not there, whoever took it out, and takes out what was wanted last time.

        The new comes first, so that no packet is without a rule meanwhile.
        """
        new = list(dict.fromkeys(wanted))
        before, self._arranged = self._arranged, list(dict.fromkeys([*self._arranged, *new]))  # whatever fails
        for one in new:
            if isinstance(one, DefaultRoute):
                self._default(one.family, one.table, one.device, one.gateway)
            else:
                for rule in _rules(one):
                    self._put_rule(one.family, rule)
        for one in before:
            if one in new:
                continue
            if isinstance(one, DefaultRoute):
                self._remove(_DELETE_ROUTE, _route(one.family, one.table, one.device, one.gateway))
            else:
                for rule in _rules(one):
                    self._remove(_DELETE_RULE, rule)
        self._arranged = new

    # What there is

    def _addresses(self, index: int, family: int) -> tuple[str, ...]:
        found = []
        for told in self._kernel.dump(_GET_ADDRESS, _ADDRESS.pack(family, 0, 0, 0, 0)):
            _, _, _, scope, device = _ADDRESS.unpack_from(told)
            address = netlink.attributes(told, _ADDRESS.size)
            text = socket.inet_ntop(family, address.get(_IFA_LOCAL) or address[_IFA_ADDRESS])
            if device == index and scope == _SCOPE_UNIVERSE and not ipaddress.ip_address(text).is_link_local:
                found.append(text)
        return tuple(found)

    def _defaults(self, family: int) -> list[_Route]:
        """Of the main table."""
        return [
            route
            for route in self._routes(family, lambda destination, protocol: not destination)
            if route.table == _TABLE_MAIN
        ]

    def _our_routes(self, family: int) -> list[_Route]:
        return list(self._routes(family, lambda destination, protocol: protocol == PROTOCOL))

    def _our_rules(self, family: int) -> list[_Rule]:
        found = []
        for told in self._kernel.dump(_GET_RULE, _RULE.pack(family, *(0,) * 8)):
            if rule_protocol(told) == PROTOCOL:
                rule = netlink.attributes(told, _RULE.size)
                for_all = not rule.keys() & {_FRA_SOURCE, _FRA_IIFNAME, _FRA_FWMARK}
                found.append(_Rule(told, _number(rule, _FRA_PRIORITY), for_all))
        return found

    def _routes(self, family: int, wanted: Callable[[int, int], bool]) -> Iterator[_Route]:
        """``wanted`` is asked with prefix length and protocol: there may be very many that are not."""
        for told in self._kernel.dump(_GET_ROUTE, _ROUTE.pack(family, *(0,) * 8)):
            _, destination, _, _, table, protocol, _, _, _ = _ROUTE.unpack_from(told)
            if not wanted(destination, protocol):
                continue
            route = netlink.attributes(told, _ROUTE.size)
            gateway = route.get(_RTA_GATEWAY)
            yield _Route(
                told,
                _number(route, _RTA_TABLE) or table,
                None if _RTA_VIA in route else _number(route, _RTA_OIF) or None,
                socket.inet_ntop(family, gateway) if gateway else None,
                _number(route, _RTA_PRIORITY),
            )

    # What is put in and taken out

    def _default(
        self,
        family: int,
        table: int,
        device: int,
        gateway: str | None = None,
        kind: int = _UNICAST,
        scope: int = _SCOPE_UNIVERSE,
    ) -> None:
        body = _route(family, table, device, gateway, kind, scope)
        try:
            self._kernel.order(_NEW_ROUTE, body, netlink.CREATE | netlink.REPLACE)
        except OSError as error:
            wanted = f"table {table}, oif {device}" + ("" if gateway is None else f", gateway {gateway}")
            goes = error.errno in (*_GONE, errno.ENETDOWN, errno.ENETUNREACH)
            lack = Unavailable if goes else SystemLacks
            raise lack(f"the kernel refuses the route ({wanted}): {error.strerror}") from None

    def _put_rule(self, family: int, body: bytes) -> None:
        try:
            self._kernel.order(_NEW_RULE, body, netlink.CREATE | netlink.EXCLUSIVE)
        except OSError as error:
            if error.errno != errno.EEXIST:  # which is: word for word
                rule = netlink.attributes(body, _RULE.size)
                wanted = f"family {family}, priority {_number(rule, _FRA_PRIORITY)}, table {_number(rule, _FRA_TABLE)}"
                raise SystemLacks(f"the kernel refuses the rule ({wanted}): {error.strerror}") from None

    def _remove(self, kind: int, told: bytes) -> None:
        """In the kernel's own words, as `ip rule flush` and `ip route flush` do it. Fine if it has gone meanwhile."""
        try:
            self._kernel.order(kind, told)
        except OSError as error:
            if error.errno not in _GONE:
                what = "rule" if kind == _DELETE_RULE else "route"
                raise SystemLacks(f"the kernel does not let go of a {what} of ours: {error.strerror}") from None


def _route(
    family: int,
    table: int,
    device: int,
    gateway: str | None = None,
    kind: int = _UNICAST,
    scope: int = _SCOPE_UNIVERSE,
) -> bytes:
    # onlink: a gateway need not be on a network of the device's, as with many a modem
    flags = 0 if gateway is None else _ONLINK
    body = _ROUTE.pack(family, 0, 0, 0, 0, PROTOCOL, scope, kind, flags)
    body += attribute(_RTA_TABLE, U32.pack(table)) + attribute(_RTA_OIF, U32.pack(device))
    return body if gateway is None else body + attribute(_RTA_GATEWAY, socket.inet_pton(family, gateway))


def _rules(lookup: Lookup) -> tuple[bytes, bytes]:
    match, length = b"", 0
    if lookup.source is not None:
        address = socket.inet_pton(lookup.family, lookup.source)
        match, length = attribute(_FRA_SOURCE, address), 8 * len(address)
    if lookup.mark is not None:
        match += _marked(lookup.mark, marks.MASK)
    no_default = attribute(_FRA_SUPPRESS_PREFIXLEN, U32.pack(0))
    return (
        _rule(lookup.family, lookup.priority, _TABLE_MAIN, match, no_default, source=length),
        _rule(lookup.family, lookup.priority + 1, lookup.table, match, source=length),
    )


def _rule(family: int, priority: int, table: int, *match: bytes, source: int = 0) -> bytes:
    """``source`` is the length of the source's prefix."""
    body = _RULE.pack(family, 0, source, 0, 0, 0, 0, _TO_TABLE, 0) + b"".join(match)
    body += attribute(_FRA_PRIORITY, U32.pack(priority)) + attribute(_FRA_TABLE, U32.pack(table))
    return body + attribute(_FRA_PROTOCOL, U8.pack(PROTOCOL))


def rule_protocol(told: bytes) -> int:
    """Who has put the rule in, as the kernel tells of it after the header: PROTOCOL are we; 0 nobody says."""
    return _number(netlink.attributes(told, _RULE.size), _FRA_PROTOCOL, U8)


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise Unavailable(f"there is no device '{name}'") from None


def _marked(mark: int, mask: int) -> bytes:
    return attribute(_FRA_FWMARK, U32.pack(mark)) + attribute(_FRA_FWMASK, U32.pack(mask))


def _arrives_by(device: str) -> bytes:
    return attribute(_FRA_IIFNAME, device.encode() + b"\0")


def _number(told: Attributes, kind: int, form: struct.Struct = U32) -> int:
    """0 if it is not there."""
    value = told.get(kind)
    return int(form.unpack(value)[0]) if value else 0
