# SPDX-License-Identifier: GPL-2.0-or-later
"""Periods and their days; counters of devices that come and go; what is used, and what people hear of it."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.limits import AtQuota, Period, Quota, decimal
from cpe.quota import Account, Reading, Record, begins, ends, moved

GB = 10**9
MONTH = Quota(volume=50 * GB, period=Period.MONTH, reset_day=1, warning=80, at_quota=AtQuota.FAILOVER, rate=None)
WWAN = Reading("wwan0", 7, "boot-1", 0, 0)


def day(text: str) -> date:
    return date.fromisoformat(text)


@pytest.mark.parametrize(
    ("period", "reset_day", "today", "began", "then"),
    [
        (Period.DAY, 1, "2026-12-31", "2026-12-31", "2027-01-01"),
        (Period.WEEK, 1, "2026-11-26", "2026-11-23", "2026-11-30"),  # a Thursday
        (Period.WEEK, 4, "2026-11-26", "2026-11-26", "2026-12-03"),
        (Period.WEEK, 5, "2026-11-26", "2026-11-20", "2026-11-27"),
        (Period.WEEK, 7, "2027-01-02", "2026-12-27", "2027-01-03"),
        (Period.MONTH, 1, "2026-11-01", "2026-11-01", "2026-12-01"),
        (Period.MONTH, 1, "2026-12-31", "2026-12-01", "2027-01-01"),
        (Period.MONTH, 15, "2026-01-14", "2025-12-15", "2026-01-15"),
        (Period.MONTH, 15, "2026-01-15", "2026-01-15", "2026-02-15"),
        (Period.MONTH, 31, "2026-01-30", "2025-12-31", "2026-01-31"),
        (Period.MONTH, 31, "2026-01-31", "2026-01-31", "2026-02-28"),
        (Period.MONTH, 31, "2026-02-27", "2026-01-31", "2026-02-28"),
        (Period.MONTH, 31, "2026-02-28", "2026-02-28", "2026-03-31"),
        (Period.MONTH, 31, "2028-02-28", "2028-01-31", "2028-02-29"),
        (Period.MONTH, 31, "2026-04-30", "2026-04-30", "2026-05-31"),
        (Period.MONTH, 30, "2026-02-28", "2026-02-28", "2026-03-30"),
        (Period.MONTH, 29, "2026-03-01", "2026-02-28", "2026-03-29"),
    ],
)
def test_periods(period: Period, reset_day: int, today: str, began: str, then: str) -> None:
    quota = replace(MONTH, period=period, reset_day=reset_day)
    assert (begins(quota, day(today)), ends(quota, day(today))) == (day(began), day(then))


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.sampled_from(Period), st.integers(1, 31))
def test_one_period_follows_the_other(today: date, period: Period, reset_day: int) -> None:
    quota = replace(MONTH, period=period, reset_day=min(reset_day, 7) if period is Period.WEEK else reset_day)
    began, end = begins(quota, today), ends(quota, today)
    assert began <= today < end
    assert begins(quota, began) == began
    assert begins(quota, end) == end
    assert begins(quota, end - timedelta(days=1)) == began


@pytest.mark.parametrize(
    ("what", "after", "bytes_moved"),
    [
        ("goes on", replace(WWAN, down=1500, up=300), (500, 100)),
        ("stands still", replace(WWAN, down=1000, up=200), (0, 0)),
        ("was made anew", replace(WWAN, index=8, down=1500, up=300), (1500, 300)),
        ("was made anew with its number", replace(WWAN, down=400, up=300), (400, 300)),
        ("counts since the box was started", replace(WWAN, boot="boot-2", down=1500, up=300), (1500, 300)),
        ("is another, by the configuration", replace(WWAN, device="wwan1", down=1500, up=300), (0, 0)),
    ],
)
def test_a_device_that(what: str, after: Reading, bytes_moved: tuple[int, int]) -> None:
    assert moved(replace(WWAN, down=1000, up=200), after) == bytes_moved, what


class Link:
    """An account, a device and two clocks."""

    def __init__(self, quota: Quota = MONTH, record: Record | None = None, today: str = "2026-11-26") -> None:
        self.today = day(today)
        self.now = 100.0
        self.reading = WWAN
        self.account = Account(quota, record, self.today)
        self.look()

    def carries(self, down: int, up: int = 0) -> list[str]:
        self.reading = replace(self.reading, down=self.reading.down + down, up=self.reading.up + up)
        return self.look()

    def look(self) -> list[str]:
        self.now += 1
        notices = self.account.look(self.reading, self.today, self.now)
        return [f"{'! ' if notice.grave else ''}{notice.text}" for notice in notices]

    @property
    def used(self) -> int:
        return self.account.record.used


def test_what_a_device_carried_before_is_not_of_this_quota() -> None:
    account = Account(MONTH, None, day("2026-11-26"))
    assert account.look(replace(WWAN, down=70 * GB), day("2026-11-26"), 0) == []
    assert (account.record.used, account.used_up) == (0, False)


def test_both_directions_count_and_one_warning_comes_in_a_period() -> None:
    link = Link()
    assert link.carries(39 * GB) == []
    assert link.carries(0, GB) == ["! 80 % are used of its 50.00 GB, which are to last until 2026-12-01"]
    assert link.carries(5 * GB) == []
    assert not link.account.used_up
    assert link.carries(5 * GB) == []
    assert link.account.used_up
    assert link.account.why == "its 50.00 GB are used up until 2026-12-01"
    link.today = day("2026-12-01")
    assert link.look() == ["its quota begins anew; 50.00 GB were used before"]
    assert (link.used, link.account.used_up) == (0, False)
    assert link.carries(45 * GB) == ["! 90 % are used of its 50.00 GB, which are to last until 2027-01-01"]


def test_a_restart_loses_and_repeats_nothing() -> None:
    link = Link()
    link.carries(41 * GB)
    kept, reading = link.account.record, link.reading
    again = Account(MONTH, kept, day("2026-11-27"))
    missed = replace(reading, down=reading.down + GB)
    assert again.look(missed, day("2026-11-27"), 5.0) == []
    assert again.record.used == 42 * GB


def test_after_a_power_cut_the_counters_begin_at_nothing() -> None:
    link = Link()
    link.carries(GB)
    again = Account(MONTH, link.account.record, day("2026-11-27"))
    again.look(replace(WWAN, boot="boot-2", index=3, down=500), day("2026-11-27"), 5.0)
    assert again.record.used == GB + 500


def test_a_modem_that_comes_and_goes() -> None:
    link = Link()
    link.carries(1000)
    assert link.account.look(None, link.today, link.now) == []
    link.reading = replace(WWAN, index=9, down=70)
    link.look()
    link.carries(30)
    assert link.used == 1100


def test_a_month_that_ended_while_the_box_was_off() -> None:
    record = Record(day("2026-10-01"), 50 * GB, 0, True, WWAN)
    account = Account(MONTH, record, day("2026-11-26"))
    (notice,) = account.look(replace(WWAN, down=5), day("2026-11-26"), 0)
    assert notice.text == "its quota begins anew; 50.00 GB were used before"
    assert account.record == Record(day("2026-11-01"), 5, 0, False, replace(WWAN, down=5))


def test_a_clock_that_is_not_set_yet_costs_and_gives_nothing() -> None:
    link = Link()
    link.carries(30 * GB)
    link.today = day("1970-01-01")
    assert link.carries(GB) == []
    link.today = day("2026-11-26")
    assert link.look() == []
    assert link.used == 31 * GB
    link.today = day("2026-12-01")
    link.look()
    assert link.used == 0


def test_a_clock_that_was_ahead_is_believed_when_it_has_gone_back_for_a_day() -> None:
    link = Link(record=Record(day("2038-01-01"), 10 * GB, 0, False, WWAN))
    link.look()
    assert link.account.resets == day("2038-02-01")
    link.now += 86400
    assert link.look() == []
    assert (link.used, link.account.resets) == (10 * GB, day("2026-12-01"))
    link.today = day("2026-12-01")
    assert link.look() == ["its quota begins anew; 10.00 GB were used before"]


def test_a_clock_that_was_ahead_is_believed_though_the_box_starts_anew_every_night() -> None:
    record = Record(day("2038-01-01"), 10 * GB, 0, False, WWAN)
    for night in range(3):
        link = Link(record=record)
        for _ in range(8):
            assert link.account.resets == day("2038-02-01"), night
            link.now += 3600
            link.look()
        record = link.account.record
    link = Link(record=record)
    link.now += 3600
    link.look()
    assert (link.used, link.account.resets) == (10 * GB, day("2026-12-01"))


def test_a_clock_that_is_not_set_at_each_start_is_never_believed() -> None:
    record = Record(day("2026-11-01"), 10 * GB, 0, False, WWAN)
    for _ in range(40):
        link = Link(record=record)
        link.today = day("1970-01-01")
        link.look()
        link.now += 3600
        link.look()
        link.today = day("2026-11-26")
        link.look()
        record = link.account.record
        assert (record.began, record.used, record.astray) == (day("2026-11-01"), 10 * GB, 0.0)


def test_a_clock_that_steps_within_the_period_changes_nothing() -> None:
    link = Link()
    link.carries(GB)
    for today in ("2026-11-02", "2026-11-30", "2026-11-01"):
        link.today = day(today)
        assert link.look() == []
    assert link.used == GB


def test_more_is_allowed_now() -> None:
    link = Link()
    link.carries(45 * GB)
    more = Account(replace(MONTH, volume=100 * GB), link.account.record, link.today)
    assert more.look(link.reading, link.today, 0) == []
    assert not more.record.warned


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (1_500_000, "1.50 MB"),
        (50 * GB, "50.00 GB"),
        (10**13, "10.00 TB"),
    ],
)
def test_decimal(size: int, text: str) -> None:
    assert decimal(size) == text
