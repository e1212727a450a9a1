# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors that are held back: here there are no others."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator

import pytest

from common.reserve import Reserve


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Nobody gets a descriptor that is not there yet: the limit is the lowest number that is free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_it_gives_and_takes() -> None:
    before = open_descriptors()
    reserve = Reserve(3)
    assert open_descriptors() == before + 3
    assert reserve.fill(), "nothing is missing"
    assert [reserve.spend() for _ in range(4)] == [True, True, True, False]
    assert open_descriptors() == before
    assert reserve.fill()
    assert open_descriptors() == before + 3
    reserve.close()
    assert open_descriptors() == before


def test_in_a_shortage_it_stays_incomplete() -> None:
    reserve = Reserve(2)
    with no_descriptors_left():
        assert reserve.fill(), "it has all it wants"
        assert reserve.spend()
        assert not reserve.fill()
    assert reserve.fill(), "the shortage is over"
    reserve.close()


def test_what_is_spent_is_there_for_another() -> None:
    reserve = Reserve(1)
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            os.dup(0)
        assert reserve.spend()
        os.close(os.dup(0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        reserve.close()
