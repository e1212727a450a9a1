# SPDX-License-Identifier: GPL-2.0-or-later
"""Which records of the log are written where there are too many of a kind. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

_KINDS: Final = 1024  # that are remembered at a time


@dataclass(slots=True)
class _Window:
    ends: float
    admitted: int = 0
    held_back: int = 0


class Throttle:
    """Of each kind at most ``burst`` within ``period`` seconds."""

    def __init__(self, burst: int, period: float) -> None:
        self._burst = burst
        self._period = period
        self._windows: dict[Hashable, _Window] = {}

    def admit(self, kind: Hashable, now: float) -> int | None:
        """None if this one is too many; else how many of its kind were, since the last that was not."""
        window = self._windows.get(kind)
        held_back = 0
        if window is None or now >= window.ends:
            held_back = window.held_back if window else 0
            self._windows.pop(kind, None)
            window = self._windows[kind] = _Window(now + self._period)
            if len(self._windows) > _KINDS:
                del self._windows[next(iter(self._windows))]
        if window.admitted >= self._burst:
            window.held_back += 1
            return None
        window.admitted += 1
        return held_back
