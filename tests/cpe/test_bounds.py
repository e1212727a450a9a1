# SPDX-License-Identifier: GPL-2.0-or-later
"""A link with everything that bounds it: counters and clocks in; what it may be used for, and what people hear, out."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from common import config
from cpe.bounds import Bounds
from cpe.quota import Reading
from cpe.steering import Allowed

FULL = (Allowed.FULL, "")
USED_UP = "its 10.00 GB are used up until 2026-12-01"
GB = 10**9


class Link:
    """On Thursday, 2026-11-26, at noon."""

    def __init__(self, *options: str) -> None:
        text = "config cpe\n list lan 'lan'\nconfig link 'xdsl'\n option device 'ppp0'\n option role 'primary'\n"
        text += "config link 'lte'\n option device 'wwan0'\n option role 'secondary'\n" + "\n".join(options)
        parsed = config.parse(text, "f").cpe
        assert parsed
        (self.link,) = parsed.secondaries
        self.local = datetime(2026, 11, 26, 12, 0)
        self.now = 100.0
        self.reading = Reading("wwan0", 7, "boot-1", 0, 0)
        self.bounds = Bounds(self.link, None, self.local)
        self.heard: list[str] = []
        self.passes(1)

    def passes(self, seconds: float, down: int = 0, alone: bool = False) -> tuple[Allowed, str]:
        self.local += timedelta(seconds=seconds)
        self.now += seconds
        self.reading = replace(self.reading, down=self.reading.down + down)
        notices = self.bounds.look(self.reading, self.local, self.now, alone)
        self.heard += [f"{'! ' if notice.grave else ''}{notice.text}" for notice in notices]
        return self.bounds.answer


@pytest.mark.parametrize(
    ("at_quota", "answer", "heard"),
    [
        ("failover", (Allowed.FAILOVER_ONLY, USED_UP), f"! only for failover: {USED_UP}"),
        ("off", (Allowed.NONE, USED_UP), f"! not used any more: {USED_UP}"),
    ],
)
def test_when_the_quota_is_used_up(at_quota: str, answer: tuple[Allowed, str], heard: str) -> None:
    link = Link("option quota '10G'", f"option at_quota '{at_quota}'")
    assert link.passes(1, 9 * GB) == FULL
    assert link.heard == ["! 90 % are used of its 10.00 GB, which are to last until 2026-12-01"]
    assert link.passes(1, GB) == answer
    assert link.passes(1, GB) == answer
    assert link.heard[1:] == [heard]
    link.local = datetime(2026, 12, 1, 0, 0)
    assert link.passes(1) == FULL
    assert link.heard[2:] == ["its quota begins anew; 11.00 GB were used before", "used again"]


def test_capped_when_the_quota_is_used_up() -> None:
    link = Link(
        "option quota '10G'", "option at_quota 'cap'", "option quota_rate '8mbit'", "option quota_warning '100'"
    )
    assert link.passes(1, 9 * GB) == FULL
    assert not link.bounds.capped
    assert link.passes(1, GB) == (Allowed.FAILOVER_ONLY, "waits: it has carried more than 8 Mbit/s")
    assert link.heard[1:] == [f"! no more than 8 Mbit/s: {USED_UP}"]
    assert link.passes(31) == FULL
    for _ in range(50):
        assert link.passes(0.1, 90_000) == FULL
    assert len(link.heard) == 2
    link.local = datetime(2026, 12, 1, 0, 0)
    assert link.passes(1, GB) == FULL
    assert not link.bounds.capped


def test_the_turns_that_a_rate_takes_are_no_news() -> None:
    link = Link("option max_rate '8mbit'")
    answers = {link.passes(0.1, 500_000 if link.bounds.answer == FULL else 0) for _ in range(100)}
    assert answers == {FULL, (Allowed.FAILOVER_ONLY, "waits: it has carried more than 8 Mbit/s")}
    assert link.heard == []


def test_a_link_that_is_alone_need_not_keep_a_rate() -> None:
    link = Link("option max_rate '8mbit'")
    for _ in range(100):
        assert link.passes(0.1, 500_000, alone=True) == FULL
    assert link.passes(0.1) == FULL


def test_hours() -> None:
    link = Link("list hours '22:00-06:00'", "list hours 'sat-sun 00:00-24:00'")
    assert link.passes(1) == (Allowed.FAILOVER_ONLY, "it is not its time before Thursday 22:00")
    link.local = datetime(2026, 11, 26, 21, 59, 59)
    assert link.passes(1) == FULL
    link.local = datetime(2026, 11, 27, 6, 0)
    assert link.passes(1) == (Allowed.FAILOVER_ONLY, "it is not its time before Friday 22:00")
    link.local = datetime(2026, 11, 28, 12, 0)
    assert link.passes(1) == FULL
    assert link.heard == [
        "only for failover: it is not its time before Thursday 22:00",
        "used again",
        "only for failover: it is not its time before Friday 22:00",
        "used again",
    ]


def test_a_clock_that_is_set_back_into_the_hours() -> None:
    link = Link("list hours '10:00-11:00'")
    assert link.passes(1)[0] is Allowed.FAILOVER_ONLY
    link.local -= timedelta(hours=1, minutes=30)
    assert link.passes(1) == FULL


def test_a_quota_that_is_used_up_counts_more_than_hours() -> None:
    link = Link("option quota '10G'", "option at_quota 'off'", "list hours '10:00-11:00'")
    assert link.passes(1, 20 * GB) == (Allowed.NONE, USED_UP)


@pytest.mark.parametrize(
    ("options", "described"),
    [
        (
            ["option quota '10G'"],
            {
                "used": 5 * GB,
                "limit": 10 * GB,
                "resets": "2026-12-01",
                "allowed": "full",
                "reason": None,
                "max_rate": None,
            },
        ),
        (
            ["list hours '10:00-11:00'", "option max_rate '5mbit'"],
            {
                "used": None,
                "limit": None,
                "resets": None,
                "allowed": "failover only",
                "reason": "it is not its time before Friday 10:00",
                "max_rate": 5_000_000,
            },
        ),
    ],
)
def test_described(options: list[str], described: dict[str, Any]) -> None:
    link = Link(*options)
    link.passes(10, 5 * GB)
    assert link.bounds.describe() == described


def test_a_turn_is_told_from_what_is_news() -> None:
    link = Link("option max_rate '8mbit'", "list hours '10:00-12:01'")
    turned = []
    for down in (2_000_000, 0):
        link.passes(2, down)
        turned.append(link.bounds.turned)
    link.passes(60)
    assert (turned, link.bounds.turned) == ([True, True], False)
