# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that is held to its share, by the control groups of this machine."""

import os
import subprocess
import sys
import time

import pytest

from bench import cpu
from bench.quota import Periods, Quota, periods
from lab.errors import SystemLacksError

BUSY = "print(flush=True)\nwhile True: pass"


def test_periods() -> None:
    then = periods("nr_periods 100\nnr_throttled 40\nthrottled_time 12345\n")
    assert then == Periods(100, 40)
    assert Periods(200, 130).since(then) == 0.9
    assert then.since(then) == 0


@pytest.mark.root
def test_held_to_its_share() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            quota = Quota(process.pid, 0.1)
        except SystemLacksError as lack:
            process.kill()
            pytest.skip(str(lack))
        try:
            before, used_up, began = cpu.look([process.pid]), quota.look(), time.monotonic()
            time.sleep(0.5)
            spent, took = cpu.look([process.pid]).since(before), time.monotonic() - began
            assert quota.look().since(used_up) > 0.9
            assert spent.processes <= 0.1 * took + 2 / cpu.TICK
        finally:
            os.kill(process.pid, 9)
            process.wait()
            quota.close()
