# SPDX-License-Identifier: GPL-2.0-or-later
"""The gateway's rules and routes stay where they are put, whoever takes them out.

Without them no packet finds its leg: open connections would stand still, and new ones not come about.
"""

from __future__ import annotations

from typing import Final

from common.log import log
from common.loop import IN, Callback, Loop, Timer
from common.system import SystemLacks
from common.watch import Guard

_SETTLES: Final = 0.02  # seconds that others get to finish what they do
_AGAIN: Final = 1.0  # seconds until what the kernel has refused is tried again


class Upkeep:
    """Has ``put`` put them in, and again whenever any is taken out. Raises SystemLacks if that does, the first time."""

    def __init__(self, loop: Loop, put: Callback) -> None:
        self._loop = loop
        self._put = put
        self._timer: Timer | None = None
        self._guard = Guard()  # first, so that nothing is lost in between
        try:
            put()
        except SystemLacks:
            self._guard.close()
            raise
        loop.add(self._guard.fileno(), IN, lambda _events: self._on_loss())

    def close(self) -> None:
        """They stay."""
        self._loop.remove(self._guard.fileno())
        self._guard.close()

    def _on_loss(self) -> None:
        if self._guard.changed() and self._timer is None:
            log.warning("another program has taken out rules or routes of ours: they are put in again")
            self._timer = self._loop.call_later(_SETTLES, self._put_again)

    def _put_again(self) -> None:
        self._timer = None
        try:
            self._put()
        except SystemLacks as lack:
            log.warning("rules and routes of ours are out, tried again: %s", lack)
            self._timer = self._loop.call_later(_AGAIN, self._put_again)
