# SPDX-License-Identifier: GPL-2.0-or-later
"""A share of one processor for one process, by the kernel's control groups (Documentation/scheduler/sched-bwc.rst).

Both versions of them, whichever has the controller `cpu`.
"""

from dataclasses import dataclass
from pathlib import Path

from lab.errors import SystemLacksError

CGROUPS = Path("/sys/fs/cgroup")
PERIOD = 10_000  # microseconds: short beside a measurement, long beside what a worker does at a time


@dataclass(frozen=True, slots=True)
class Periods:
    """Those in which a process had something to do, and those of them whose end its share did not last to."""

    all: int
    used_up: int

    def since(self, before: "Periods") -> float:
        """The share of periods that were used up; 0 if there was none."""
        return (self.used_up - before.used_up) / max(1, self.all - before.all)


class Quota:
    """The process has `share` of one processor's time, neither more nor, where it wants it, less; until `close`."""

    def __init__(self, pid: int, share: float) -> None:
        """SystemLacksError if the machine has no such control."""
        self._root, limits = _control(round(share * PERIOD))
        self._group = self._root / f"hybrid-bench-{pid}"
        try:
            self._group.mkdir()
            for name, value in limits.items():
                (self._group / name).write_text(value)
            (self._group / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise SystemLacksError(f"no quota for a process: {self._group}: {error.strerror}") from None

    def look(self) -> Periods:
        return periods((self._group / "cpu.stat").read_text())

    def close(self) -> None:
        """Gives the process back what it had; fine if it has ended."""
        if members := (self._group / "cgroup.procs").read_text():
            (self._root / "cgroup.procs").write_text(members)
        self._group.rmdir()


def periods(stat: str) -> Periods:
    values = dict(line.split() for line in stat.splitlines())
    return Periods(int(values["nr_periods"]), int(values["nr_throttled"]))


def _control(quota: int) -> tuple[Path, dict[str, str]]:
    """Where groups are made, and what is written into one; the weight is the highest that there is."""
    controllers = CGROUPS / "cgroup.subtree_control"
    if controllers.exists() and "cpu" in controllers.read_text().split():
        return CGROUPS, {"cpu.max": f"{quota} {PERIOD}", "cpu.weight": "10000"}
    if (CGROUPS / "cpu/cpu.cfs_quota_us").exists():
        limits = {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": str(quota), "cpu.shares": "262144"}
        return CGROUPS / "cpu", limits
    raise SystemLacksError(f"no quota for a process: no control group with 'cpu' under {CGROUPS}")
