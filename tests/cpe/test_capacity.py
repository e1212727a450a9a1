# SPDX-License-Identifier: GPL-2.0-or-later
"""What a link carries goes in, look by look; whether it is full, and what it can carry, comes out."""

import pytest

from cpe.capacity import Capacity, Carried, rate

LOOK = 0.1  # seconds


class Line:
    """A link that is looked at every tenth of a second."""

    def __init__(self, down: float | None = None, up: float | None = None) -> None:
        """Configured rates in Mbit/s."""
        self.capacity = Capacity(*(None if it is None else int(it * 1e6) for it in (down, up)))

    def carries(self, down: float, seconds: float = 1.0, *, up: float = 0.1, rtt: float | None = None) -> str | None:
        """Mbit/s, and milliseconds."""
        for _ in range(round(seconds / LOOK)):
            self.capacity.note(Carried(down * 1e6, up * 1e6, LOOK, None if rtt is None else rtt / 1e3))
        return self.capacity.full()

    @property
    def learned(self) -> float:
        """Mbit/s down."""
        return (self.capacity.down.rate or 0.0) / 1e6


def test_a_link_is_full_at_most_of_its_rate_in_either_direction() -> None:
    line = Line(20, 5)
    assert line.carries(16.9) is None
    assert line.carries(17.1) == "carries 17.1 Mbit/s of 20 Mbit/s down"
    assert line.carries(1, up=4.2) is None
    assert line.carries(1, up=4.4) == "carries 4.4 Mbit/s of 5 Mbit/s up"


def test_a_burst_does_not_fill_it_and_the_answer_comes_in_less_than_half_a_second() -> None:
    line = Line(20, 5)
    line.carries(0)
    assert line.carries(20, 0.3) is None
    assert line.carries(20, 0.1)
    assert line.carries(0, 0.1) is None


def test_a_first_look_after_a_pause_is_not_enough() -> None:
    line = Line(20, 5)
    line.carries(20)
    line.capacity.pause()
    assert line.capacity.full() is None
    assert line.carries(20, 0.3) is None
    assert line.carries(20, 0.1)


@pytest.mark.parametrize("rtt", [None, 30.0])
def test_without_a_rate_the_most_so_far_is_what_it_can(rtt: float | None) -> None:
    """Even if no packets wait: perhaps the sender sees to that."""
    line = Line()
    assert line.carries(20, rtt=rtt)
    assert line.learned == pytest.approx(20)
    assert line.carries(10, rtt=rtt) is None
    assert line.carries(18, rtt=rtt)


def test_a_learned_rate_is_slowly_forgotten() -> None:
    line = Line()
    line.carries(20)
    for _ in range(24 * 60):
        line.capacity.note(Carried(0, 0, 60.0))
    assert line.learned == pytest.approx(10, rel=0.01)


def test_where_packets_wait_it_is_full_whatever_it_carries_compared_with_before() -> None:
    line = Line()
    line.carries(12, rtt=30)
    assert line.carries(8, rtt=180) == "takes 180 ms for a round trip of 30 ms"
    assert line.carries(4, rtt=50) is None


def test_a_rate_that_was_learned_comes_down_to_what_it_carries_while_packets_wait() -> None:
    line = Line()
    line.carries(20, rtt=30)
    line.carries(8, 10, rtt=180)
    assert line.learned == pytest.approx(8, rel=0.01)


def test_a_longer_way_is_no_queue() -> None:
    """It has another route, or the HAG is busy: where little is carried nothing is lost of what was learned."""
    line = Line()
    line.carries(20, rtt=20)
    line.carries(0.1, rtt=20)
    assert line.carries(0.1, 60, up=0.01, rtt=60) is None
    assert line.carries(4, 60, rtt=60) is None
    assert line.learned == pytest.approx(20, rel=0.01)


def test_a_line_that_carries_a_tenth_of_what_it_did_is_found_out_all_the_same() -> None:
    """It has trained anew: what waits does so behind our packets, for without them nothing did."""
    line = Line()
    line.carries(50, rtt=20)
    line.carries(0.1, rtt=20)
    line.carries(5, 10, rtt=170)
    assert line.learned == pytest.approx(5, rel=0.02)


def test_packets_that_wait_for_others_than_this_links_load() -> None:
    line = Line(20, 5)
    line.carries(1, rtt=30)
    assert line.carries(1, rtt=300) is None
    assert line.carries(10.5, rtt=300) == "takes 300 ms for a round trip of 30 ms"


def test_a_best_round_trip_is_forgotten_too() -> None:
    line = Line()
    line.carries(1, rtt=10)
    for _ in range(4):
        line.capacity.note(Carried(0, 0, 3600.0, 0.06))
    assert line.capacity.best == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("bits", "text"), [(19_640_000, "19.6 Mbit/s"), (20_000_000, "20 Mbit/s"), (64_000, "64 kbit/s"), (None, "unknown")]
)
def test_a_rate_in_words(bits: float | None, text: str) -> None:
    assert rate(bits) == text
