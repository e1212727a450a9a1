# SPDX-License-Identifier: GPL-2.0-or-later
"""What bounds a link, in the configuration: options in, the bounds or the exact complaint out."""

import pytest

from common import config
from common.config import ConfigErrors
from common.hours import hours
from common.limits import AtQuota, Period, Quota
from common.link import LinkConfig

CPE = "config cpe 'cpe'\n list lan 'br-lan'\n"
XDSL = "config link 'xdsl'\n option device 'pppoe-wan'\n option role 'primary'\n"
LTE = "config link 'lte'\n option device 'wwan0'\n option role 'secondary'\n"


def lte(*options: str) -> LinkConfig:
    parsed = config.parse(CPE + XDSL + LTE + "\n".join(options), "f").cpe
    assert parsed
    return parsed.secondaries[0]


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        config.parse(text, "f")
    return [error.partition(": ")[2] for error in str(caught.value).splitlines()]


def test_none() -> None:
    assert (lte().quota, lte().max_rate, lte().hours) == (None, None, ())


def test_a_quota_alone() -> None:
    assert lte("option quota '50G'").quota == Quota(
        volume=50_000_000_000, period=Period.MONTH, reset_day=1, warning=80, at_quota=AtQuota.FAILOVER, rate=None
    )


def test_everything() -> None:
    link = lte(
        "option quota '1.5TB'",
        "option quota_period 'week'",
        "option quota_reset_day '7'",
        "option quota_warning '95'",
        "option at_quota 'cap'",
        "option quota_rate '1mbit'",
        "option max_rate '20mbit'",
        "list hours '22:00-06:00'",
        "list hours 'sat-sun 00:00-24:00'",
    )
    assert link.quota == Quota(
        volume=1_500_000_000_000,
        period=Period.WEEK,
        reset_day=7,
        warning=95,
        at_quota=AtQuota.CAP,
        rate=1_000_000,
    )
    assert link.max_rate == 20_000_000
    assert link.hours == (hours("22:00-06:00"), hours("sat-sun 00:00-24:00"))


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("1k", 1000), ("500MB", 500_000_000), ("2T", 2 * 10**12)])
def test_volumes(text: str, size: int) -> None:
    quota = lte(f"option quota '{text}'").quota
    assert quota
    assert quota.volume == size


@pytest.mark.parametrize("text", ["", "0", "0.1", "50g", "50 G", "50GiB", "-1G", "G", "1e3"])
def test_not_a_volume(text: str) -> None:
    (complaint,) = complaints(CPE + XDSL + LTE + f"option quota '{text}'")
    assert complaint == f"link 'lte', option 'quota': '{text}' is not a volume such as 500M, 50G or 1.5T"


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        (["option at_quota 'off'"], ["option 'at_quota': means nothing without option 'quota'"]),
        (["option quota_rate '1mbit'"], ["option 'quota_rate': means nothing without option 'quota'"]),
        (["option quota '1G'", "option at_quota 'cap'"], ["option 'at_quota': 'cap' needs option 'quota_rate'"]),
        (
            ["option quota '1G'", "option quota_rate '1mbit'"],
            ["option 'quota_rate': means nothing without at_quota 'cap'"],
        ),
        (
            ["option quota '1G'", "option quota_period 'week'", "option quota_reset_day '8'"],
            ["option 'quota_reset_day': a week has no day 8"],
        ),
        (
            ["option quota '1G'", "option quota_period 'day'", "option quota_reset_day '2'"],
            ["option 'quota_reset_day': a day has no day 2"],
        ),
        (
            ["list hours '22-6'"],
            ["option 'hours': '22-6' is no time of the day such as 22:00-06:00 or 'sat-sun 00:00-24:00'"],
        ),
    ],
)
def test_complaints(options: list[str], reasons: list[str]) -> None:
    assert complaints(CPE + XDSL + LTE + "\n".join(options)) == [f"link 'lte', {reason}" for reason in reasons]


@pytest.mark.parametrize("option", ["option quota '1G'", "option max_rate '1mbit'", "list hours '10:00-11:00'"])
def test_the_primary_link_has_no_bounds(option: str) -> None:
    reason = "is for secondary links: the primary one has the first subflow of every connection"
    name = option.split()[1]
    assert complaints(CPE + LTE + XDSL + option) == [f"link 'xdsl', option '{name}': {reason}"]
