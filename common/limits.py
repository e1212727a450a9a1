# SPDX-License-Identifier: GPL-2.0-or-later
"""What bounds the use of a link, as the configuration says it. Pure; cpe/quota.py and its neighbours go by it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from common.hours import hours
from common.options import Entry
from common.values import choice, number, rate, volume


class Period(Enum):
    """After which a quota begins anew."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class AtQuota(Enum):
    """What a link is good for once its quota is used up."""

    FAILOVER = "failover"  # while no other link is up
    CAP = "cap"  # for less
    OFF = "off"  # nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a link may carry in a period: bytes, both directions together. `warning` is in percent, `rate` in bit/s.

    `reset_day` is of the week (1 is Monday) or of the month.
    """

    volume: int
    period: Period
    reset_day: int
    warning: int
    at_quota: AtQuota
    rate: int | None  # for CAP


_QUOTA: Mapping[str, Entry] = {
    "quota": Entry(parse=volume),
    "quota_period": Entry(parse=choice(Period), default="month"),
    "quota_reset_day": Entry(parse=number(1, 31), default="1"),
    "quota_warning": Entry(parse=number(1, 100), default="80"),
    "at_quota": Entry(parse=choice(AtQuota), default="failover"),
    "quota_rate": Entry(parse=rate),
}

LIMITS: Mapping[str, Entry] = {
    **_QUOTA,
    "max_rate": Entry(parse=rate),
    "hours": Entry(parse=hours, many=True),
}
"""The options of a link that bound its use."""

_DAYS = {Period.DAY: 1, Period.WEEK: 7, Period.MONTH: 31}


def complaints(given: Iterable[str], values: Mapping[str, Any], primary: bool) -> Iterator[tuple[str, str]]:
    """Of the options of a link, those that are wrong or say nothing, and why. ``given`` are those in the file."""
    for name in dict.fromkeys(given):
        if primary and name in LIMITS:
            yield name, "is for secondary links: the primary one has the first subflow of every connection"
        elif name in _QUOTA and values["quota"] is None:
            yield name, "means nothing without option 'quota'"
    if values["quota"] is None:
        return
    period, day = values["quota_period"], values["quota_reset_day"]
    if day > _DAYS[period]:
        yield "quota_reset_day", f"a {period.value} has no day {day}"
    capped = values["at_quota"] is AtQuota.CAP
    if capped and values["quota_rate"] is None:
        yield "at_quota", "'cap' needs option 'quota_rate'"
    elif not capped and values["quota_rate"] is not None:
        yield "quota_rate", "means nothing without at_quota 'cap'"


def with_quota(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a link with a Quota in the place of those that make it; None is without."""
    others = {name: value for name, value in values.items() if name not in _QUOTA}
    if values["quota"] is None:
        return {**others, "quota": None}
    quota = Quota(
        volume=values["quota"],
        period=values["quota_period"],
        reset_day=values["quota_reset_day"],
        warning=values["quota_warning"],
        at_quota=values["at_quota"],
        rate=values["quota_rate"],
    )
    return {**others, "quota": quota}


def decimal(size: int) -> str:
    """In the decimal units in which traffic is sold: '49.87 GB'."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} B"
