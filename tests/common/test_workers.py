# SPDX-License-Identifier: GPL-2.0-or-later
"""How many workers there are."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.loop import Loop
from common.orphans import Orphans
from common.workers import Workers


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def processors() -> Iterator[set[int]]:
    """Those that this process may use; they are given back."""
    processors = os.sched_getaffinity(0)
    yield processors
    os.sched_setaffinity(0, processors)


def count(loop: Loop, configured: int | None, directory: Path) -> int:
    orphans = Orphans(directory / "workers")
    return Workers(loop, [], configured, None, None, lambda tokens: None, lambda: None, orphans, lambda text: []).count


def test_one_for_each_processor_that_we_may_use(loop: Loop, processors: set[int], tmp_path: Path) -> None:
    assert count(loop, None, tmp_path) == min(len(processors), 64)
    os.sched_setaffinity(0, {min(processors)})
    assert count(loop, None, tmp_path) == 1


def test_as_many_as_configured(loop: Loop, tmp_path: Path) -> None:
    assert [count(loop, configured, tmp_path) for configured in (1, 3, 64)] == [1, 3, 64]
