# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be on its way over several subflows: what the kernel says of them in, bytes out."""

import pytest

from common.backlog import Backlog, Path

DSL, LTE = Path(625_000, 0.031), Path(1_250_000, 0.061)  # 5 and 10 Mbit/s
BOUND = int(1_875_000 * (1.5 * 0.061 + 0.11))


def test_a_connection_that_fills_what_it_is_given_is_bounded() -> None:
    assert 350_000 < BOUND < 400_000
    backlog = Backlog()
    assert backlog.room([DSL, LTE], 300_000) is None
    assert backlog.room([DSL, LTE], 1_300_000) == BOUND
    assert backlog.room([DSL, LTE], BOUND) is None


def test_one_over_a_single_subflow_is_not() -> None:
    assert Backlog().room([LTE], 4_000_000) is None
    assert Backlog().room([], 4_000_000) is None


def test_nor_is_a_fast_one() -> None:
    fast = Path(100_000_000, 0.0005)
    assert Backlog().room([fast, fast], 30_000_000) is None


def test_what_becomes_faster_has_more_at_once() -> None:
    backlog = Backlog()
    backlog.room([DSL, LTE], 1_300_000)
    assert backlog.room([DSL, Path(1_500_000, 0.061)], 100_000) is None  # hardly
    more = backlog.room([DSL, Path(2_500_000, 0.061)], 100_000)
    assert more == int(3_125_000 * (1.5 * 0.061 + 0.11))
    assert backlog.room([Path(1e9, 0.1), LTE], 100_000) == 16 << 20


def test_what_becomes_slower_has_less_after_a_while_and_only_if_it_fills_it() -> None:
    backlog = Backlog()
    backlog.room([DSL, LTE], 1_300_000)
    slow = Path(125_000, 0.061)
    told = [backlog.room([DSL, slow], 370_000) for _ in range(8)]
    less = [size for size in told if size is not None]
    assert less == sorted(less, reverse=True)
    assert backlog.bound is not None
    assert backlog.bound < BOUND / 2
    unused = Backlog()
    unused.room([DSL, LTE], 1_300_000)
    assert [unused.room([DSL, slow], 50_000) for _ in range(8)] == [None] * 8


def test_a_moment_without_a_subflow_changes_nothing() -> None:
    backlog = Backlog()
    backlog.room([DSL, LTE], 1_300_000)
    assert backlog.room([], 300_000) is None
    assert [backlog.room([DSL], 300_000) for _ in range(8)] == [None] * 8
    assert backlog.room([DSL, LTE], BOUND) is None


def test_a_slow_uplink_has_something_left() -> None:
    slow = Path(1000, 0.05)
    assert Backlog().room([slow, slow], 400_000) == 65536


def test_a_single_subflow_that_needs_more_gets_it() -> None:
    backlog = Backlog()
    backlog.room([DSL, LTE], 1_300_000)
    assert backlog.room([Path(6_250_000, 0.56)], 300_000) == int(6_250_000 * (1.5 * 0.56 + 0.11))


ADSL, FAST = 125_000, 1_875_000  # 1 and 15 Mbit/s
ROUND_TRIP = 1.5 * 0.12 + 0.11


def alike(adsl: int, fast: int) -> list[Path]:
    return [Path(ADSL, 0.05, adsl), Path(FAST, 0.12, fast)]


def test_a_slow_path_that_has_much_to_do_leaves_the_fast_one_its_room() -> None:
    """What waits for three seconds of the slow path cannot be acknowledged before, wherever it came over."""
    backlog = Backlog()
    assert backlog.room(alike(375_000, 375_000), 3_000_000) is None  # 6 MB would do
    assert backlog.room(alike(125_000, 375_000), 6_000_000) == int(2_000_000 * (ROUND_TRIP + 1.0 - 0.2))


def test_as_the_slow_path_gets_on_the_bound_follows() -> None:
    backlog = Backlog()
    told = [backlog.room(alike(left, 375_000), 4_000_000) for left in (125_000, 100_000, 50_000, 25_000)]
    assert told == pytest.approx([2_000_000 * (ROUND_TRIP + more) for more in (0.8, 0.6, 0.2, 0.0)], abs=1)
    assert backlog.room(alike(300_000, 0), 1_000_000) == int(2_000_000 * (ROUND_TRIP + 2.4))


def test_paths_that_all_have_too_much_have_less() -> None:
    both = [Path(DSL.rate, DSL.rtt, 625_000), Path(LTE.rate, LTE.rtt, 1_250_000)]
    assert Backlog().room(both, 1_900_000) == BOUND


def test_of_a_path_that_has_delivered_nothing_yet_nobody_knows() -> None:
    backlog = Backlog()
    assert backlog.room([DSL, Path(0, 0.06, 64_000)], 1_300_000) is None
    assert backlog.room([DSL, LTE, Path(0, 0.06)], 1_300_000) == BOUND  # one that waits in reserve
