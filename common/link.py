# SPDX-License-Identifier: GPL-2.0-or-later
"""The links of the configuration: sections in, frozen dataclasses out, and what is wrong to the report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from common.hours import Hours
from common.limits import LIMITS, Quota, complaints, with_quota
from common.options import Entry, Report, read_options
from common.uci import Section
from common.values import choice, device, interface, rate


class Role(Enum):
    """Which of the accesses a link is."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """One access of the CPE; rates in bit/s, None where they are to be learned.

    It has a device, or else an interface: a network of OpenWrt's, whose device is netifd's to say (common/netifd.py).
    `quota`, `max_rate` (in bit/s, of each direction) and `hours` bound what a secondary link is used for; without any
    it is used for all.
    """

    name: str
    device: str | None
    interface: str | None = None
    role: Role
    rate_down: int | None
    rate_up: int | None
    quota: Quota | None = None
    max_rate: int | None = None
    hours: tuple[Hours, ...] = ()


LINK: Mapping[str, Entry] = {
    "device": Entry(parse=device),
    "interface": Entry(parse=interface),
    "role": Entry(parse=choice(Role), required=True),
    "rate_down": Entry(parse=rate),
    "rate_up": Entry(parse=rate),
    **LIMITS,
}


def read_link(section: Section, report: Report) -> LinkConfig | None:
    """What the section says; None where the report says why it cannot be read."""
    if section.name is None:
        report.add(section, "a link needs a name: config link 'NAME'")
    found = {one.name for one in (*section.options, *section.lists)} & {"device", "interface"}
    if not found:
        report.add(section, "option 'device' is missing")
    elif len(found) > 1:
        report.add(section, "'device' says the same in other words: leave one of them out", option="interface")
    values = read_options(section, LINK, report)
    if not section.name or not values or len(found) != 1:
        return None
    given = [option.name for option in (*section.options, *section.lists)]
    for option, reason in complaints(given, values, values["role"] is Role.PRIMARY):
        report.add(section, reason, option=option)
    return LinkConfig(name=section.name, **with_quota(values))


def check_devices(cpe: Section, links: Iterable[tuple[Section, LinkConfig]], report: Report) -> None:
    """A device is one link or a LAN, never two of these: its traffic would be told apart by nothing.

    Whether that holds of interfaces, too, turns out when they have devices (cpe/links.py).
    """
    users = {("device", option.value): option.line for option in cpe.lists if option.name == "lan"}
    for section, link in links:
        kind, name = ("device", link.device) if link.device else ("interface", link.interface or "")
        line = users.setdefault((kind, name), section.line)
        if line != section.line:
            report.add(section, f"'{name}' is already used at line {line}", option=kind)


def check_primary(cpe: Section, links: Iterable[tuple[Section, LinkConfig]], report: Report, *, complete: bool) -> None:
    """Exactly one link is primary. Without `complete`, a link that could not be read may have been it."""
    primaries = [section for section, link in links if link.role is Role.PRIMARY]
    if not primaries and complete:
        report.add(cpe, "there is no link with role 'primary'")
    for section in primaries[1:]:
        report.add(section, f"{primaries[0].title} is already the primary link", option="role")
