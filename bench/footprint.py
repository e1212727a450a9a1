# SPDX-License-Identifier: GPL-2.0-or-later
"""What processes hold: memory, pipes, how often they wake up (proc(5)), and what the kernel holds besides."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

KIB = 1024


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of some processes together. `resident` counts a page that several share for each, `proportional` counts it once.

    Both in bytes; `pipes` counts ends, `wakeups` since the processes began.
    """

    resident: int
    proportional: int
    pipes: int
    wakeups: int


def footprint(pids: Iterable[int]) -> Footprint:
    found = [_of_one(pid) for pid in pids]
    return Footprint(
        sum(one.resident for one in found),
        sum(one.proportional for one in found),
        sum(one.pipes for one in found),
        sum(one.wakeups for one in found),
    )


def kernel_slab() -> int:
    """Bytes of the kernel's small objects, sockets among them, on the whole machine."""
    return _field(Path("/proc/meminfo").read_text(), "Slab") * KIB


def _of_one(pid: int) -> Footprint:
    memory, status = Path(f"/proc/{pid}/smaps_rollup").read_text(), Path(f"/proc/{pid}/status").read_text()
    return Footprint(
        _field(memory, "Rss") * KIB,
        _field(memory, "Pss") * KIB,
        sum(_is_pipe(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")),
        _field(status, "voluntary_ctxt_switches"),
    )


def _field(text: str, name: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


def _is_pipe(descriptor: str) -> bool:
    try:
        return os.readlink(descriptor).startswith("pipe:")
    except FileNotFoundError:
        return False
