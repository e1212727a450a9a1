# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors held back for what has been promised: a client whose SYN is released must not find that none is left.

Limits are chosen so that descriptors suffice (common/workers.py). This is for when they do not all the same: the limit
was lowered while the process ran, or the whole system has run out.
"""

from __future__ import annotations

import os


class Reserve:
    """``size`` descriptors of nothing, or as many of them as can be had."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: list[int] = []
        self.fill()

    def fill(self) -> bool:
        """Takes what is missing; False if the system does not give it."""
        try:
            while len(self._held) < self._size:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def spend(self) -> bool:
        """Lets go of one, for something that matters; False if there is none."""
        if not self._held:
            return False
        os.close(self._held.pop())
        return True

    def close(self) -> None:
        while self.spend():
            pass
