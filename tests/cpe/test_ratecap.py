# SPDX-License-Identifier: GPL-2.0-or-later
"""A link that carries at full speed whenever it may: what comes of it is the rate that it is held to."""

import pytest

from cpe.ratecap import RateCap

MBIT = 1_000_000


def carried(cap: RateCap, seconds: float, link: float, other_way: float = 0.0, begin: float = 0.0) -> float:
    """Mean rate in bit/s of a link that carries ``link`` while it may, looked at each tenth of a second.

    It stops two looks after it has to, as real ones do.
    """
    total, may = 0.0, [True, True, True]
    for step in range(round(seconds * 10)):
        size = link / 80 if may[0] else 0
        total += size
        cap.look(round(size), round(other_way / 80), begin + step / 10)
        may = [*may[1:], not cap.exceeded]
    return total * 8 / seconds


@pytest.mark.parametrize("link", [8, 20, 50, 100])
def test_a_fast_link_is_held_to_its_rate_on_the_average(link: int) -> None:
    assert carried(RateCap(5 * MBIT), 120, link * MBIT) == pytest.approx(5 * MBIT, rel=0.03)


def test_a_link_that_stays_below_never_waits() -> None:
    assert carried(RateCap(5 * MBIT), 60, 4.9 * MBIT) == pytest.approx(4.9 * MBIT)


def test_each_direction_by_itself() -> None:
    assert carried(RateCap(5 * MBIT), 60, 4 * MBIT, other_way=4 * MBIT) == pytest.approx(4 * MBIT)
    assert carried(RateCap(5 * MBIT), 60, 4 * MBIT, other_way=6 * MBIT) < 1 * MBIT


def test_a_pause_saves_a_second_and_no_more() -> None:
    cap = RateCap(8 * MBIT)
    cap.look(0, 0, 0.0)
    cap.look(999_999, 0, 3600.0)
    assert not cap.exceeded
    cap.look(100_000, 0, 3600.01)
    assert cap.exceeded


def test_it_waits_until_half_a_second_is_saved() -> None:
    cap = RateCap(8 * MBIT)
    cap.look(2_000_000, 0, 0.0)
    states = []
    for now in (0.5, 1.0, 1.4, 1.5):
        cap.look(0, 0, now)
        states.append(cap.exceeded)
    assert states == [True, True, True, False]


def test_after_much_it_waits_half_a_minute_at_most() -> None:
    cap = RateCap(8 * MBIT)
    cap.look(10**12, 0, 0.0)
    cap.look(0, 0, 30.4)
    assert cap.exceeded
    cap.look(0, 0, 30.6)
    assert not cap.exceeded
