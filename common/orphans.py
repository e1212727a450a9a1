# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers that outlive their control: known by a file in the run directory, ended when the next daemon stops.

A daemon that stops takes its rules and routes along, without which an orphan's connections get no packet any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from common import memory
from common.log import log

_PATIENCE: Final = 2.0  # seconds that they may take to reset their connections

Process = tuple[int, int]  # process id, and the clock tick of its start: a number alone comes back


class Orphans:
    """The processes in the file that are still alive."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._alive = [process for process in _read(memory) if _started(process[0]) == process[1]]

    @property
    def alive(self) -> bool:
        """Whether any of those of before still has connections."""
        return any(_started(pid) == tick for pid, tick in self._alive)

    def remember(self, pids: Iterable[int]) -> None:
        """Writes down these, the workers of now, beside those of before; without any there is no file."""
        workers = [(pid, tick) for pid in pids if (tick := _started(pid)) is not None]
        known = [*(process for process in self._alive if _started(process[0]) == process[1]), *workers]
        try:
            if known:
                memory.write(self._memory, json.dumps(known))
            else:
                self._memory.unlink(missing_ok=True)
        except OSError as error:
            log.warning("a later daemon will not know the workers: cannot write %s: %s", self._memory, error.strerror)

    def end(self) -> None:
        """Lets those of before reset their connections and end."""
        deadline = time.monotonic() + _PATIENCE
        _signal(self._alive, signal.SIGTERM)
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        _signal(self._alive, signal.SIGKILL)


def _signal(processes: Iterable[Process], number: int) -> None:
    for pid, tick in processes:
        if _started(pid) == tick:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _started(pid: int) -> int | None:
    """When the process started; None if there is none, or only its exit status is left."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else int(fields[18])


def _read(memory: Path) -> list[Process]:
    try:
        found = json.loads(memory.read_text())
        return [(int(pid), int(tick)) for pid, tick in found]
    except (OSError, ValueError, TypeError):
        return []
