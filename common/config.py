# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration: text in, frozen dataclasses out, one for each role.

Nothing past this file handles strings, and nothing past it finds a configuration wrong. Every complaint names
file, line, section and option, and all complaints about a file come at once. docs/configuration.md explains
the options. Links, and policies, are files of their own: common/link.py, common/policy.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from common import uci
from common.link import LINK, LinkConfig, Role, check_devices, check_primary, read_link
from common.options import Entry, Report, did_you_mean, read_options
from common.policy import MATCH, POLICY, BypassRule, Policy, Steering, check_matched_devices, read_bypass, read_policy
from common.uci import ConfigError as ConfigError
from common.uci import ConfigErrors as ConfigErrors
from common.uci import Section
from common.values import Network, address, choice, device, directory, interface, number, prefix, size, switch

MAX_WORKERS = 64
INBOUND = MAX_WORKERS  # from a worker's queue and port to those for connections from the Internet


class NativeMptcp(Enum):
    """What becomes of a connection whose client speaks Multipath TCP itself."""

    BOND = "bond"
    PASS = "pass"


class Quic(Enum):
    """What becomes of QUIC, and whatever else is sent to UDP port 443."""

    PASS = "pass"
    FALLBACK = "fallback"  # refused, so that browsers take TCP


class LogLevel(Enum):
    """What is logged: records of this level and those that matter more."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpeConfig:
    """What hybrid-cpe does; see docs/configuration.md for each value.

    `join_after` and `flow_buffer` are in bytes, `hold` and `drain` in seconds, `probe_interval` in milliseconds, 0 if
    nothing is probed. `workers` None is one for each processor, at most MAX_WORKERS; `max_flows` None is as many as
    the limit of open files allows. `queue`, `listen_port`, `table_base` and `rule_priority` are the first of several
    in use.
    """

    lan: tuple[str, ...]
    lan_interface: tuple[str, ...]
    steering: Steering
    join_after: int
    join_addresses: tuple[IPv4Address | IPv6Address, ...]
    join_port: int
    native_mptcp: NativeMptcp
    quic: Quic
    inbound: bool
    hold: int
    probe_interval: int
    probe_count: int
    state_dir: Path
    workers: int | None
    max_flows: int | None
    flow_buffer: int
    drain: int
    log_level: LogLevel
    queue: int
    listen_port: int
    table_base: int
    rule_priority: int
    links: tuple[LinkConfig, ...]
    bypass: tuple[BypassRule, ...]
    policies: tuple[Policy, ...]

    @property
    def primary(self) -> LinkConfig:
        """The one link whose role is primary."""
        return next(link for link in self.links if link.role is Role.PRIMARY)

    @property
    def secondaries(self) -> tuple[LinkConfig, ...]:
        """The other links, in the file's order; may be empty."""
        return tuple(link for link in self.links if link.role is Role.SECONDARY)


@dataclass(frozen=True, slots=True, kw_only=True)
class HagConfig:
    """What hybrid-hag does; `workers` to `rule_priority` as in CpeConfig. Prefixes of a tuple may overlap.

    `max_flows_per_subscriber` None is a quarter of what each worker may have; `delegated_prefix` is in bits.
    """

    access: tuple[str, ...]
    join_device: str
    join_port: int
    subscribers: tuple[Network, ...]
    protect: tuple[Network, ...]
    max_flows_per_subscriber: int | None
    delegated_prefix: int
    native_mptcp: NativeMptcp
    inbound: bool
    workers: int | None
    max_flows: int | None
    flow_buffer: int
    drain: int
    log_level: LogLevel
    queue: int
    listen_port: int
    table_base: int
    rule_priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration file; None for a role whose section it does not have."""

    cpe: CpeConfig | None
    hag: HagConfig | None


def flow_buffer(text: str) -> int:
    """A size that leaves room for the relay's own share (common/transparent.py) and fits the kernel's integers."""
    value = size(text)
    if not 1 << 20 <= value <= 1 << 30:
        raise ValueError(f"'{text}' is not a number of bytes from 1M to 1024M")
    return value


def probe_interval(text: str) -> int:
    """Milliseconds; 0 is never."""
    value = number(0, 60000)(text)
    if 0 < value < 50:
        raise ValueError(f"'{text}' is neither 0 nor a whole number from 50 to 60000")
    return value


def worker_count(text: str) -> int | None:
    """How many workers; None for 'auto'."""
    if text == "auto":
        return None
    try:
        return number(1, MAX_WORKERS)(text)
    except ValueError as error:
        raise ValueError(f"{error} or 'auto'") from None


def _machinery(workers: str, first: str, rule_priority: str) -> dict[str, Entry]:
    """The options that both roles have; the defaults differ so that traces tell which box they are of."""
    return {
        "workers": Entry(parse=worker_count, default=workers),
        "max_flows": Entry(parse=number(1, 2**31 - 1), live=True),
        "flow_buffer": Entry(parse=flow_buffer, default="16M"),
        "drain": Entry(parse=number(0, 3600), default="30", live=True),
        "log_level": Entry(parse=choice(LogLevel), default="info", live=True),
        "queue": Entry(parse=number(0, 65535), default=first),
        "listen_port": Entry(parse=number(1, 65535), default=first),
        # Tables below 256 are the system's (rt_tables), rules from 32766 on are those of main and default.
        "table_base": Entry(parse=number(256, 2**31 - 1), default=first),
        "rule_priority": Entry(parse=number(1, 32000), default=rule_priority),
    }


SECTIONS: Mapping[str, Mapping[str, Entry]] = {
    "cpe": {
        "lan": Entry(parse=device, many=True, live=True),
        "lan_interface": Entry(parse=interface, many=True, live=True),
        "steering": Entry(parse=choice(Steering), default="overflow", live=True),
        "join_after": Entry(parse=size, default="65536", live=True),
        "join_address": Entry(parse=address, many=True, live=True),
        "join_port": Entry(parse=number(1, 65535), default="9001", live=True),
        "native_mptcp": Entry(parse=choice(NativeMptcp), default="bond", live=True),
        "quic": Entry(parse=choice(Quic), default="pass", live=True),
        "inbound": Entry(parse=switch, default="0"),
        "hold": Entry(parse=number(0, 86400), default="10"),
        "probe_interval": Entry(parse=probe_interval, default="250", live=True),
        "probe_count": Entry(parse=number(1, 20), default="4", live=True),
        "state_dir": Entry(parse=directory, default="/var/lib/hybrid-access"),
        **_machinery(workers="1", first="4800", rule_priority="480"),
    },
    "link": LINK,
    "bypass": MATCH,
    "policy": POLICY,
    "hag": {
        "access": Entry(parse=device, required=True, many=True, live=True),
        "join_device": Entry(parse=device, required=True),
        "join_port": Entry(parse=number(1, 65535), default="9001"),
        "subscriber": Entry(parse=prefix, required=True, many=True, live=True),
        "protect": Entry(parse=prefix, many=True, live=True),
        "max_flows_per_subscriber": Entry(parse=number(1, 2**31 - 1), live=True),
        "delegated_prefix": Entry(parse=number(1, 128), default="56"),
        "native_mptcp": Entry(parse=choice(NativeMptcp), default="pass", live=True),
        "inbound": Entry(parse=switch, default="0"),
        **_machinery(workers="auto", first="4900", rule_priority="490"),
    },
}
"""Every section type, and for each the options it may have."""


def load(path: str | Path) -> Config:
    """Read and check a configuration file; raises ConfigErrors with everything that is wrong in it."""
    return parse(read(path), str(path))


def read(path: str | Path) -> str:
    """The text of a configuration file; raises ConfigErrors."""
    file = str(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise ConfigErrors([ConfigError(file, 0, reason)]) from error
    return uci.decode(data, file)


def parse(text: str, file: str) -> Config:
    """As load() for text at hand; `file` only names it in errors."""
    sections = uci.parse(text, file)
    report = Report(file)
    _check_types(sections, report)
    _check_names(sections, report)
    config = Config(cpe=_read_cpe(sections, report), hag=_read_hag(sections, report))
    if report.errors:
        raise ConfigErrors(report.errors)
    return config


def _check_types(sections: Iterable[Section], report: Report) -> None:
    """Section types must be known; at most one section for each role; the others belong to a CPE."""
    roles: dict[str, int] = {}
    types = {section.type for section in sections}
    for section in sections:
        if section.type not in SECTIONS:
            report.add(section, "unknown section type" + did_you_mean(section.type, SECTIONS))
        elif section.type in ("link", "bypass", "policy"):
            if "cpe" not in types:
                report.add(section, "there is no 'config cpe' section that it could belong to")
        elif roles.setdefault(section.type, section.line) != section.line:
            report.add(section, f"only one '{section.type}' section is allowed, see line {roles[section.type]}")


def _check_names(sections: Iterable[Section], report: Report) -> None:
    """A name is unique in a file across all types: libuci merges or refuses sections that share one."""
    lines: dict[str, int] = {}
    for section in sections:
        if section.name and lines.setdefault(section.name, section.line) != section.line:
            report.add(section, f"the name '{section.name}' is already used at line {lines[section.name]}")


def _read_cpe(sections: list[Section], report: Report) -> CpeConfig | None:
    link_sections = [section for section in sections if section.type == "link"]
    links = [read_link(section, report) for section in link_sections]
    bypass = [read_bypass(section, report) for section in sections if section.type == "bypass"]
    policies = [read_policy(section, report) for section in sections if section.type == "policy"]
    section = next((section for section in sections if section.type == "cpe"), None)
    if section is None:
        return None
    if all(option.name not in ("lan", "lan_interface") for option in (*section.options, *section.lists)):
        report.add(section, "list 'lan' is missing")
    values = read_options(section, SECTIONS["cpe"], report)
    good = [(at, link) for at, link in zip(link_sections, links, strict=True) if link]
    check_devices(section, good, report)
    check_matched_devices(section, sections, report)
    check_primary(section, good, report, complete=None not in links)
    if values is None:
        return None
    _check_runs(section, values, report)
    join_addresses = values.pop("join_address")
    return CpeConfig(
        links=tuple(filter(None, links)),
        bypass=tuple(filter(None, bypass)),
        policies=tuple(filter(None, policies)),
        join_addresses=join_addresses,
        **values,
    )


def _read_hag(sections: Iterable[Section], report: Report) -> HagConfig | None:
    section = next((section for section in sections if section.type == "hag"), None)
    values = read_options(section, SECTIONS["hag"], report) if section else None
    if section is None or values is None:
        return None
    _check_runs(section, values, report)
    if values["join_port"] in _run(values, "listen_port"):
        reason = f"{values['join_port']} is also a worker's, which count up from listen_port"
        report.add(section, reason, option="join_port")
    return HagConfig(subscribers=values.pop("subscriber"), **values)


def _run(values: Mapping[str, Any], option: str) -> range:
    """The numbers that the workers take from `option` on; 'auto' may become as many as MAX_WORKERS.

    For connections from the Internet they count on from MAX_WORKERS.
    """
    first = values[option]
    return range(first, first + MAX_WORKERS * values["inbound"] + (values["workers"] or MAX_WORKERS))


def _check_runs(section: Section, values: Mapping[str, Any], report: Report) -> None:
    for option in ("queue", "listen_port"):
        run = _run(values, option)
        if run[-1] > 65535:
            report.add(section, f"{run[0]} leaves no room for {len(run)} workers below 65536", option=option)
