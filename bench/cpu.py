# SPDX-License-Identifier: GPL-2.0-or-later
"""CPU time: of some processes from /proc/PID/stat, of the whole machine from /proc/stat (proc(5)).

What a packet costs in a softirq is charged to the process that happened to run then, be it a box's or the load
generator's. So a box's processes may look cheaper or dearer than they are: the machine's time says what all of it took.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds since the machine or the process began. `processes` by pid; `busy` is all but idle, softirq included."""

    processes: dict[int, float]
    busy: float
    softirq: float
    idle: float = 0.0

    def since(self, before: "Usage") -> "Spent":
        """A process that has ended meanwhile counts for nothing, one that has begun counts whole."""
        processes = sum(total - before.processes.get(pid, 0.0) for pid, total in self.processes.items())
        softirq, idle = self.softirq - before.softirq, self.idle - before.idle
        return Spent(processes, self.busy - before.busy, softirq, idle)


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds between two looks."""

    processes: float
    busy: float
    softirq: float
    idle: float = 0.0


def look(pids: Iterable[int]) -> Usage:
    processes = {}
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            processes[pid] = process_time(Path(f"/proc/{pid}/stat").read_text())
    return Usage(processes, *machine_time(Path("/proc/stat").read_text()))


def process_time(stat: str) -> float:
    """User and system seconds of one process, all its threads, without children."""
    fields = stat.rpartition(")")[2].split()  # from the third one on: the name may contain anything
    return (int(fields[11]) + int(fields[12])) / TICK


def machine_time(stat: str) -> tuple[float, float, float]:
    """Seconds of all cores: busy ones, those of them in softirqs, and idle ones."""
    user, nice, system, idle, iowait, irq, softirq = map(int, stat.split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) / TICK, softirq / TICK, (idle + iowait) / TICK
