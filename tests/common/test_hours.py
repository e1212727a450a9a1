# SPDX-License-Identifier: GPL-2.0-or-later
"""Hours as people write them, and which readings of the clock are in them."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from common.hours import hours, next_change

# 2026-11-23 is a Monday.
MONDAY = datetime(2026, 11, 23)


def at(text: str) -> datetime:
    """Such as 'wed 21:59', in that week."""
    day, clock = text.split()
    hour, minute = map(int, clock.split(":"))
    return MONDAY + timedelta(
        days=["mon", "tue", "wed", "thu", "fri", "sat", "sun"].index(day), hours=hour, minutes=minute
    )


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("08:00-17:30", ["mon 08:00", "sun 17:29"], ["mon 07:59", "sun 17:30"]),
        ("22:00-06:00", ["mon 22:00", "tue 05:59", "mon 00:00"], ["mon 21:59", "tue 06:00"]),
        ("00:00-24:00", ["mon 00:00", "sun 23:59"], []),
        ("18:00-24:00", ["mon 18:00", "mon 23:59"], ["tue 00:00"]),
        ("18:00-00:00", ["mon 18:00", "mon 23:59"], ["tue 00:00"]),
        ("fri 22:00-06:00", ["fri 22:00", "sat 05:59"], ["fri 05:59", "sat 22:00"]),
        ("sun 22:00-06:00", ["sun 23:00", "mon 01:00"], ["sun 01:00", "tue 01:00"]),
        ("sat-sun 00:00-24:00", ["sat 00:00", "sun 23:59"], ["fri 23:59", "mon 00:00"]),
        ("SAT-mon 10:00-11:00", ["sat 10:00", "sun 10:30", "mon 10:59"], ["tue 10:00", "fri 10:00"]),
    ],
)
def test_inside_and_outside(text: str, inside: list[str], outside: list[str]) -> None:
    window = hours(text)
    assert [moment for moment in inside if at(moment) not in window] == []
    assert [moment for moment in outside if at(moment) in window] == []


@pytest.mark.parametrize(
    "text",
    ["", "22-6", "22:00", "22:00-22:00", "24:00-06:00", "22:60-23:00", "23:00-24:01", "day 10:00-11:00", "2:00-3:00"],
)
def test_no_hours(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'"):
        hours(text)


def test_the_hour_that_summer_time_leaves_out_and_the_one_that_comes_twice() -> None:
    """By the clock on the wall in Berlin: on 2026-03-29 from 02:00 to 03:00, on 2026-10-25 from 03:00 back to 02:00."""
    berlin, utc = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
    window = hours("02:30-03:30")

    def minutes_inside(begin: datetime) -> int:
        moments = (begin + timedelta(minutes=minute) for minute in range(6 * 60))
        return sum(moment.astimezone(berlin).replace(tzinfo=None) in window for moment in moments)

    assert minutes_inside(datetime(2026, 6, 1, 22, tzinfo=utc)) == 60
    assert minutes_inside(datetime(2026, 3, 28, 23, tzinfo=utc)) == 30
    assert minutes_inside(datetime(2026, 10, 24, 22, tzinfo=utc)) == 90


@pytest.mark.parametrize(
    ("texts", "now", "then"),
    [
        (["22:00-06:00"], "mon 12:00", "mon 22:00"),
        (["22:00-06:00"], "mon 22:00", "tue 06:00"),
        (["22:00-24:00", "00:00-06:00"], "mon 23:00", "tue 06:00"),
        (["sat-sun 00:00-24:00"], "mon 12:00", "sat 00:00"),
        (["mon 10:00-11:00"], "mon 10:30", "mon 11:00"),
    ],
)
def test_when_it_changes(texts: list[str], now: str, then: str) -> None:
    assert next_change(map(hours, texts), at(now)) == at(then)


def test_when_it_changes_next_week() -> None:
    assert next_change([hours("mon 10:00-11:00")], at("mon 11:00")) == at("mon 10:00") + timedelta(days=7)


def test_what_never_changes() -> None:
    assert next_change([hours("00:00-24:00")], MONDAY) is None
