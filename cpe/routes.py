# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules and routes that the state of the links asks for. Pure.

One table for each link, looked up by the link's addresses and by marks: of first subflows, and of what is forwarded in
connections that the router's NAT has given an address of the link. A subflow inherits its connection's mark, so the
rules by address come first.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Final

from common import marks
from common.config import CpeConfig
from common.link import LinkConfig, Role
from common.routing import DefaultRoute, DeviceState, Lookup

_BY_SOURCE: Final = 2  # places after the first priority
_BY_MARK: Final = 4
REPLAYED: Final = 6
_EVERYTHING: Final = 8


def routes(
    config: CpeConfig, states: Mapping[str, DeviceState], default: LinkConfig | None
) -> Iterator[DefaultRoute | Lookup]:
    """``states`` are those of the links that are up, by name; ``default`` is the link that everything else goes by."""
    for place, link in enumerate(config.links):
        if link.name not in states:
            continue
        state, table = states[link.name], config.table_base + 1 + place
        for family, gateway in state.gateways.items():
            yield DefaultRoute(table, family, state.index, gateway)
            for address in state.addresses[family]:
                yield Lookup(config.rule_priority + _BY_SOURCE, table, family, source=address)
            yield Lookup(config.rule_priority + _BY_MARK, table, family, mark=marks.server_leg(place))
            if _has_mark(link, place) and family == socket.AF_INET:
                yield Lookup(config.rule_priority + _BY_MARK, table, family, mark=marks.began(place))
            if link is default:
                yield Lookup(config.rule_priority + _EVERYTHING, table, family)


def natted(config: CpeConfig, states: Mapping[str, DeviceState]) -> Iterator[tuple[str, int]]:
    """What tells by which link a connection began, where the router has translated its source: an IPv4 address of that
    link, which is up, and its place. An address that several links have tells of the primary one, else of the first.
    """
    whose = _whose(config, states)
    for place, link in enumerate(config.links):
        if _has_mark(link, place):
            yield from ((address, place) for address, links in whose.items() if links[0] is link)


def shared(config: CpeConfig, states: Mapping[str, DeviceState]) -> dict[str, list[str]]:
    """IPv4 addresses that several links have which are up, and these links: whose they are, and the others."""
    whose = _whose(config, states).items()
    return {address: [link.name for link in links] for address, links in whose if len(links) > 1}


def _whose(config: CpeConfig, states: Mapping[str, DeviceState]) -> dict[str, list[LinkConfig]]:
    found: dict[str, list[LinkConfig]] = {}
    for link in sorted(config.links, key=lambda link: link is not config.primary):
        state = states.get(link.name)
        for address in dict.fromkeys(state.addresses.get(socket.AF_INET, ()) if state else ()):
            found.setdefault(address, []).append(link)
    return found


def _has_mark(link: LinkConfig, place: int) -> bool:
    """What began by the primary link goes where all goes, and that is there again when the link is."""
    return link.role is Role.SECONDARY and place < marks.MAX_BEGAN
