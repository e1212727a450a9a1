# SPDX-License-Identifier: GPL-2.0-or-later
"""Both daemons as configured by default, with nothing to do: how soon they are ready, and what they take then."""

import statistics
import time

from bench import cpu
from bench.footprint import footprint
from bench.results import Sample
from lab.access import Kind
from lab.daemons import Daemon, cpe_daemon, hag_daemon
from lab.topology import Lab

NAME = "nothing to do"
STARTS = 5
SETTLED = 2.0  # seconds after the last start
WATCHED = 10.0  # seconds


def measure() -> Sample:
    """For each box seconds from start to ready (median), MiB of all processes, wake-ups a second, % of a processor."""
    sample: Sample = {}
    with Lab(Kind.DIRECT) as lab:
        boxes = {"hag": hag_daemon(lab), "cpe": cpe_daemon(lab)}
        for box, daemon in boxes.items():
            sample[f"{box}_ready_s"] = statistics.median(_ready(daemon, STARTS))
        time.sleep(SETTLED)
        pids = {box: daemon.node.pids() for box, daemon in boxes.items()}
        before = {box: (footprint(found), cpu.look(found)) for box, found in pids.items()}
        time.sleep(WATCHED)
        for box, found in pids.items():
            held, usage = footprint(found), cpu.look(found)
            sample[f"{box}_mib"] = held.proportional / 2**20
            sample[f"{box}_wakeups"] = (held.wakeups - before[box][0].wakeups) / WATCHED
            sample[f"{box}_cpu"] = usage.since(before[box][1]).processes / WATCHED * 100
    return sample


def _ready(daemon: Daemon, times: int) -> list[float]:
    """Seconds of each start; it stays started."""
    seconds = []
    for last in range(times - 1, -1, -1):
        began = time.monotonic()
        daemon.start()
        seconds.append(time.monotonic() - began)
        if last:
            daemon.stop()
    return seconds
