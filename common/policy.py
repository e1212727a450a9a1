# SPDX-License-Identifier: GPL-2.0-or-later
"""The policies of the configuration: which connections are bonded in a way of their own, or never.

Sections in, frozen dataclasses out, and what is wrong to the report.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from common.options import Entry, Report, read_options
from common.uci import Section
from common.values import Network, choice, device, dscp, ports, prefix


class Steering(Enum):
    """Which links carry a flow, and when."""

    OVERFLOW = "overflow"
    ACTIVE_STANDBY = "active-standby"
    SMALLEST_DELAY = "smallest-delay"
    LOAD_BALANCING = "load-balancing"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Connections that match every criterion that is set (not empty, not None).

    `name` is for display. A range is half-open as ranges are: range(443, 444) is port 443 alone. Ranges and
    networks of one rule may overlap.
    """

    name: str
    dports: tuple[range, ...]
    dsts: tuple[Network, ...]
    srcs: tuple[Network, ...]
    dscp: int | None
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BypassRule(Match):
    """Connections that are never bonded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Match):
    """Connections that use the links in a way of their own."""

    steering: Steering


MATCH: Mapping[str, Entry] = {
    "dport": Entry(parse=ports, many=True),
    "dst": Entry(parse=prefix, many=True),
    "src": Entry(parse=prefix, many=True),
    "dscp": Entry(parse=dscp),
    "device": Entry(parse=device, many=True),
}

POLICY: Mapping[str, Entry] = {
    "steering": Entry(parse=choice(Steering), required=True),
    **MATCH,
}


def read_bypass(section: Section, report: Report) -> BypassRule | None:
    """What the section says; None where the report says why it cannot be read."""
    values = _read_match(section, MATCH, report)
    return BypassRule(**values) if values else None


def read_policy(section: Section, report: Report) -> Policy | None:
    """As read_bypass()."""
    values = _read_match(section, POLICY, report)
    return Policy(**values) if values else None


def _read_match(section: Section, table: Mapping[str, Entry], report: Report) -> dict[str, Any] | None:
    """The fields of Match, and of what else the section has."""
    values = read_options(section, table, report)
    if values is None:
        return None
    if not any(given.name in MATCH for given in (*section.options, *section.lists)):
        report.add(section, f"needs at least one of: {', '.join(MATCH)}")
    if values["dst"] and values["src"] and _versions(values["dst"]).isdisjoint(_versions(values["src"])):
        report.add(section, "matches nothing: 'src' and 'dst' have no IP version in common")
    fields = {"dport": "dports", "dst": "dsts", "src": "srcs", "device": "devices"}
    return {"name": section.title, **{fields.get(name, name): value for name, value in values.items()}}


def _versions(networks: Iterable[Network]) -> set[int]:
    return {network.version for network in networks}


def check_matched_devices(cpe: Section, sections: Iterable[Section], report: Report) -> None:
    """Only what arrives from a LAN could be bonded, so a rule for another device matches nothing."""
    lans = {option.value for option in cpe.lists if option.name == "lan"}
    if any(option.name == "lan_interface" for option in cpe.lists):
        return  # whose devices are netifd's to say
    for section in sections:
        for option in section.lists:
            if section.type in ("bypass", "policy") and option.name == "device" and option.value not in lans:
                reason = f"matches nothing: '{option.value}' is no 'lan' of {cpe.title}"
                report.add(section, reason, option="device", line=option.line)
