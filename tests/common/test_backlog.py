# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be on its way over several subflows: what the kernel says of them in, bytes out."""

from common.backlog import Backlog, Path

DSL, LTE = (625_000, 0.031), (1_250_000, 0.061)  # 5 and 10 Mbit/s: bytes a second, seconds of a round trip
ADSL, FAST = (125_000, 0.051), (1_875_000, 0.121)  # 1 and 15 Mbit/s


def base(*lines: tuple[int, float]) -> int:
    """What these carry in a round trip and a half of the longest one, and a tenth of a second."""
    return int(sum(rate for rate, _ in lines) * (1.5 * max(rtt for _, rtt in lines) + 0.11))


def given(seconds: float, *lines: tuple[int, float]) -> list[Path]:
    """Each has as much left as it delivers in this time."""
    return [Path(rate, rtt, int(rate * seconds)) for rate, rtt in lines]


def looks(backlog: Backlog, count: int, paths: list[Path], more: int = 0) -> list[int]:
    """What it says in so many looks; ``more`` has arrived and is not acknowledged."""
    waiting = sum(path.left for path in paths) + more
    return [room for _ in range(count) if (room := backlog.room(paths, waiting)) is not None]


def settled(*lines: tuple[int, float], more: int = 0) -> Backlog:
    """One that has had half a minute of transfers to find its bound."""
    backlog = Backlog()
    looks(backlog, 120, given(0.7, *lines), more)
    return backlog


def test_a_connection_that_fills_what_it_is_given_gets_less_little_by_little() -> None:
    backlog = Backlog()
    told = looks(backlog, 120, given(0.7, DSL, LTE))
    assert told[0] > 1_000_000
    assert told == sorted(told, reverse=True)
    assert told[-1] <= 1.2 * base(DSL, LTE)
    assert looks(backlog, 120, given(0.15, DSL, LTE)) == []


def test_one_over_a_single_subflow_is_not_bounded() -> None:
    assert looks(Backlog(), 120, given(3.0, LTE)) == []
    assert Backlog().room([], 4_000_000) is None


def test_nor_is_a_fast_one() -> None:
    fast = (100_000_000, 0.0005)
    assert looks(Backlog(), 120, given(0.15, fast, fast)) == []


def test_what_becomes_faster_has_more_at_once() -> None:
    backlog = settled(DSL, LTE)
    assert looks(backlog, 1, given(0.1, DSL, (1_500_000, 0.061))) == []  # hardly
    (more,) = looks(backlog, 1, given(0.1, DSL, (2_500_000, 0.061)))
    assert more >= base(DSL, (2_500_000, 0.061))
    assert backlog.room([Path(1_000_000_000, 0.1)], 100_000) == 8 << 20


def test_what_becomes_slower_has_less_after_a_while_and_only_if_it_fills_it() -> None:
    slow = (125_000, 0.061)
    backlog = settled(DSL, LTE)
    told = looks(backlog, 8, given(0.7, DSL, slow))
    assert told == sorted(told, reverse=True)
    assert told[-1] < 0.6 * base(DSL, LTE)
    assert looks(settled(DSL, LTE), 8, given(0.1, DSL, slow)) == []


def test_a_moment_without_a_subflow_changes_nothing() -> None:
    backlog = settled(DSL, LTE)
    bound = backlog.bound
    assert backlog.room([], 300_000) is None
    assert looks(backlog, 8, given(0.15, DSL, LTE)) == []
    assert backlog.bound == bound


def test_a_subflow_that_is_left_alone_has_what_it_needs() -> None:
    """What it has when the other one comes back is late then."""
    backlog = settled(DSL, LTE)
    assert base(DSL) <= looks(backlog, 30, given(0.7, DSL))[-1] <= 1.2 * base(DSL)
    assert looks(backlog, 1, given(0.15, DSL, LTE))[-1] >= base(DSL, LTE)


def test_a_slow_uplink_has_something_left() -> None:
    slow, backlog = (1000, 0.05), Backlog()
    assert looks(backlog, 120, given(200.0, slow, slow))[-1] in range(65536, 80_000)


def test_a_single_subflow_that_needs_more_gets_it() -> None:
    satellite = (6_250_000, 0.56)
    (more,) = looks(settled(DSL, LTE), 1, given(0.05, satellite))
    assert more >= base(satellite)


def test_a_slow_path_that_has_much_to_do_leaves_the_fast_one_its_room() -> None:
    """Three seconds of the slow path cannot be acknowledged before, nor what has overtaken them."""
    slow, fast = Path(*ADSL, 375_000), Path(*FAST, 375_000)
    backlog = Backlog()
    for overtaken in range(0, 4_000_000, 400_000):
        room = backlog.room([slow, fast], 750_000 + overtaken)
        bound = backlog.bound
        assert bound is None or bound >= 1.0 * base(ADSL, FAST) + overtaken, (room, overtaken)


def test_what_is_late_now_and_then_is_allowed_for_all_the_time() -> None:
    """A slow path gets 64 KiB at once, half a second of 1 Mbit/s: meanwhile the fast one delivers a megabyte."""
    backlog = settled(ADSL, FAST, more=1_000_000)
    for _ in range(30):
        looks(backlog, 3, given(0.2, ADSL, FAST))
        looks(backlog, 1, given(0.2, ADSL, FAST), 1_000_000)
    assert backlog.bound
    assert backlog.bound > base(ADSL, FAST) + 700_000


def test_what_a_path_has_that_delivers_nothing_comes_on_top() -> None:
    """It has just been joined, or swallows everything."""
    mute, spare = Path(0, 0.06, 64_000), Path(0, 0.06)
    backlog = Backlog()
    bounds = looks(backlog, 120, [*given(0.7, DSL, LTE), mute])
    assert base(DSL, LTE) + 64_000 <= bounds[-1] <= 1.2 * (base(DSL, LTE) + 64_000)
    assert looks(Backlog(), 120, [*given(0.7, DSL, LTE), spare])[-1] <= 1.2 * base(DSL, LTE)


def test_where_others_fill_the_queues_a_bound_does_not_make_it_ever_slower() -> None:
    """The round trip of now is 400 ms on both: what is delivered is what is bounded, in that time."""
    backlog, bound, told = Backlog(), 700_000, []
    for _ in range(400):
        share = bound // 2
        crowded = [Path(int(share / 0.4), rtt, share, 0.4) for rtt in (0.031, 0.061)]
        room = backlog.room(crowded, bound + 10_000)
        if room is not None:
            bound = room
            told.append(room)
    assert bound > 500_000, told
