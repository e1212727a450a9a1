# SPDX-License-Identifier: GPL-2.0-or-later
"""Hours of the day, as a clock on the wall shows them, on some days of the week. Pure: the local time is an argument.

Nothing is computed ahead, so a clock that is set, or that goes forward or back an hour in spring and autumn, is simply
another reading: the hour that is left out is in no window, and the one that comes twice is in a window both times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = 24 * 60  # minutes
_FORM: Final = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")


@dataclass(frozen=True, slots=True)
class Hours:
    """From ``begin`` to ``end``, in minutes of the day, on the ``days`` (0 is Monday).

    With an end that is not later than the begin they go on past midnight, into a day that need not be in ``days``.
    """

    days: frozenset[int]
    begin: int
    end: int

    def __contains__(self, local: object) -> bool:
        if not isinstance(local, datetime):
            return False
        minute = local.hour * 60 + local.minute
        if self.begin < self.end:
            return local.weekday() in self.days and self.begin <= minute < self.end
        yesterday = (local.weekday() - 1) % len(_DAYS)
        return (local.weekday() in self.days and minute >= self.begin) or (yesterday in self.days and minute < self.end)


def hours(text: str) -> Hours:
    """Such as '22:00-06:00' or 'sat-sun 00:00-24:00'. Raises ValueError, as the parsers of common/values.py do."""
    match = _FORM.fullmatch(text.lower())
    if not match:
        raise ValueError(f"'{text}' is no time of the day such as 22:00-06:00 or 'sat-sun 00:00-24:00'")
    first, last, *clock = match.groups()
    begin, end = (_minutes(text, hour, minute) for hour, minute in zip(clock[::2], clock[1::2], strict=True))
    if begin in (end, _DAY):
        raise ValueError(f"'{text}' has no time between its begin and its end")
    return Hours(_days(text, first, last), begin, end)


def next_change(windows: Iterable[Hours], local: datetime) -> datetime | None:
    """When, by the clock on the wall, it will be otherwise than now; None if it never is. For people to read."""
    windows = tuple(windows)
    now = any(local in one for one in windows)
    minute = local.replace(second=0, microsecond=0, tzinfo=None)
    edges = sorted({edge % _DAY for one in windows for edge in (one.begin, one.end)})
    for day in range(len(_DAYS) + 1):
        for edge in edges:
            when = minute.replace(hour=0, minute=0) + timedelta(days=day, minutes=edge)
            if when > minute and any(when in one for one in windows) != now:
                return when
    return None


def _minutes(text: str, hour: str, minute: str) -> int:
    value = int(hour) * 60 + int(minute)
    if int(minute) > 59 or value > _DAY:
        raise ValueError(f"'{text}' has a time that no clock shows")
    return value


def _days(text: str, first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(len(_DAYS)))
    try:
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
    except ValueError:
        raise ValueError(f"'{text}' has a day that is none of: {', '.join(_DAYS)}") from None
    return frozenset((begin + n) % len(_DAYS) for n in range((end - begin) % len(_DAYS) + 1))
