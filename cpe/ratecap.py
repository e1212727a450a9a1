# SPDX-License-Identifier: GPL-2.0-or-later
"""A rate that a link is not to exceed on the average. Pure: what it has carried in, whether it may carry on out.

What arrives has been sent, so the router cannot shape it; what it can do is to have the link carry and to have it wait,
by turns. So the rate holds over some seconds: a link that is ten times as fast as that carries a tenth of the time.
"""

from __future__ import annotations

from typing import Final

_BURST: Final = 1.0  # seconds of the rate that may be carried at once
_AGAIN: Final = 0.5  # of the burst that must have been saved before the link carries again
_DEBT: Final = 30.0  # seconds of the rate that must be made up for, at most


class RateCap:
    """``rate`` is in bit/s, of each direction."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._saved = [self._burst, self._burst]  # bytes; less than nothing is debt
        self._looked: float | None = None
        self.exceeded = False

    @property
    def _burst(self) -> float:
        return _BURST * self.rate / 8

    def look(self, down: int, up: int, now: float) -> None:
        """So many bytes have been carried since the last look."""
        gained = 0.0 if self._looked is None else (now - self._looked) * self.rate / 8
        self._looked = now
        lowest = -_DEBT * self.rate / 8
        self._saved = [
            max(lowest, min(self._burst, saved + gained) - spent)
            for saved, spent in zip(self._saved, (down, up), strict=True)
        ]
        self.exceeded = min(self._saved) < (_AGAIN * self._burst if self.exceeded else 0)
