# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be on its way over several subflows: what the kernel says of them in, bytes out."""

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
