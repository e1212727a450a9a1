# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of a kind and their times in; which are written out."""

from common.throttle import Throttle


def test_a_burst_is_written_and_the_rest_counted() -> None:
    throttle = Throttle(3, 10.0)
    assert [throttle.admit("a", now) for now in (0.0, 1.0, 2.0, 3.0, 9.9)] == [0, 0, 0, None, None]
    assert [throttle.admit("a", now) for now in (10.0, 11.0, 12.0, 13.0)] == [2, 0, 0, None]


def test_kinds_do_not_take_from_each_other() -> None:
    throttle = Throttle(1, 10.0)
    assert [throttle.admit(kind, 0.0) for kind in "abab"] == [0, 0, None, None]


def test_many_kinds_take_no_more_memory() -> None:
    throttle = Throttle(1, 10.0)
    for kind in range(5000):
        assert throttle.admit(kind, 0.0) == 0
    assert len(throttle._windows) == 1024
    assert throttle.admit(0, 0.0) == 0  # forgotten
    assert throttle.admit(4999, 0.0) is None
