# SPDX-License-Identifier: GPL-2.0-or-later
"""CPU time as proc(5) tells it."""

import os
import time

from bench.cpu import TICK, Spent, Usage, look, machine_time, process_time


def test_process_time_whatever_the_name() -> None:
    stat = f"17 (a) b (c) S {' '.join(str(number) for number in range(4, 14))} 250 150 7 7 20 0 1"
    assert process_time(stat) == 400 / TICK


def test_machine_time() -> None:
    assert machine_time("cpu  1 2 4 1000 2000 8 16 500 0 0\ncpu0 9 9 9 9 9 9 9\n") == (
        31 / TICK,
        16 / TICK,
        3000 / TICK,
    )


def test_spent() -> None:
    """A process that ended counts for nothing, one that began counts whole."""
    before, after = Usage({1: 5.0, 2: 7.0}, 100.0, 10.0, 50.0), Usage({1: 6.5, 3: 0.25}, 103.0, 11.0, 54.0)
    assert after.since(before) == Spent(1.75, 3.0, 1.0, 4.0)


def test_look_sees_this_process_work() -> None:
    before = look([os.getpid()])
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    spent = look([os.getpid()]).since(before)
    assert 0.05 < spent.processes < 2.0
    assert spent.busy > 0.05
    assert look([2**22 + 1]).processes == {}
