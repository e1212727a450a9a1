# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of its quota a link has used. Pure: a device's counters and the date in, the account out.

Periods begin at midnight, by the date on the box. A date before the period that has begun is a clock that is not set
yet, as that of a router after a power cut, or one that was set back: what is used stays used. Only when the box has
run a day with such a date, restarts or not, is it believed, and the account goes on in the period of that date.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from common.limits import Period, Quota, decimal

_BELIEVED: Final = 86400.0  # seconds


@dataclass(frozen=True, slots=True)
class Reading:
    """Bytes that a device has counted since it is there.

    Another ``index``, or another ``boot`` of the box, is another device under that name, which began at nothing.
    """

    device: str
    index: int
    boot: str
    down: int
    up: int


@dataclass(frozen=True, slots=True)
class Notice:
    """What people should hear; what is grave, as a warning."""

    text: str
    grave: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What must outlive a restart: bytes used since the period began, and the counters they were reckoned by last.

    ``astray`` is for how many seconds the box has run with dates before the period, without another one in between.
    """

    began: date
    down: int = 0
    up: int = 0
    warned: bool = False
    reading: Reading | None = None
    astray: float = 0.0

    @property
    def used(self) -> int:
        return self.down + self.up


def begins(quota: Quota, today: date) -> date:
    """When the period that ``today`` is in began. Where a month has no such day, its last one is it."""
    match quota.period:
        case Period.DAY:
            return today
        case Period.WEEK:
            return today - timedelta(days=(today.isoweekday() - quota.reset_day) % 7)
        case Period.MONTH:
            this = _of_month(today.year, today.month, quota.reset_day)
            if this <= today:
                return this
            before = today.replace(day=1) - timedelta(days=1)
            return _of_month(before.year, before.month, quota.reset_day)


def ends(quota: Quota, today: date) -> date:
    """When the next period begins."""
    began = begins(quota, today)
    match quota.period:
        case Period.DAY:
            return began + timedelta(days=1)
        case Period.WEEK:
            return began + timedelta(days=7)
        case Period.MONTH:
            after = began.replace(day=28) + timedelta(days=4)
            return _of_month(after.year, after.month, quota.reset_day)


def _of_month(year: int, month: int, day: int) -> date:
    return date(year, month, min(day, calendar.monthrange(year, month)[1]))


def moved(before: Reading | None, now: Reading) -> tuple[int, int]:
    """Bytes down and up between two readings.

    Nothing without an earlier one of the device: what it counted before may be last month's. Everything that it has
    counted where it was made anew meanwhile, or the box has been started: then all of it is later than that reading.
    """
    if before is None or before.device != now.device:
        return 0, 0
    goes_on = (before.index, before.boot) == (now.index, now.boot) and before.down <= now.down and before.up <= now.up
    return (now.down - before.down, now.up - before.up) if goes_on else (now.down, now.up)


class Account:
    """Of one link. ``record`` is what to keep."""

    def __init__(self, quota: Quota, record: Record | None, today: date) -> None:
        self.quota = quota
        self.record = record or Record(begins(quota, today))
        self._looked: float | None = None  # the last time

    @property
    def used_up(self) -> bool:
        return self.record.used >= self.quota.volume

    @property
    def resets(self) -> date:
        """When nothing will be used."""
        return ends(self.quota, self.record.began)

    @property
    def why(self) -> str:
        """What to say once it is used up."""
        return f"its {decimal(self.quota.volume)} are used up until {self.resets}"

    def look(self, reading: Reading | None, today: date, now: float) -> list[Notice]:
        """Takes the counters of the device, None while there is none; returns what people should hear of it.

        ``now`` is a clock that nobody sets.
        """
        told = self._follow(today, now)
        if reading is not None:
            down, up = moved(self.record.reading, reading)
            used = self.record.down + down, self.record.up + up
            self.record = replace(self.record, down=used[0], up=used[1], reading=reading)
        percent = 100 * self.record.used // self.quota.volume
        warned = percent >= self.quota.warning
        if warned and not self.record.warned:
            left = f"{decimal(self.quota.volume)}, which are to last until {self.resets}"
            told.append(Notice(f"{percent} % are used of its {left}", grave=True))
        self.record = replace(self.record, warned=warned)
        return told

    def _follow(self, today: date, now: float) -> list[Notice]:
        began = begins(self.quota, today)
        passed = 0.0 if self._looked is None else now - self._looked
        self._looked = now
        if began > self.record.began:
            before = decimal(self.record.used)
            self.record = Record(began, reading=self.record.reading)
            return [Notice(f"its quota begins anew; {before} were used before")]
        astray = self.record.astray + passed if began < self.record.began else 0.0
        if astray >= _BELIEVED:
            self.record = replace(self.record, began=began, astray=0.0)
        elif astray != self.record.astray:
            self.record = replace(self.record, astray=astray)
        return []
