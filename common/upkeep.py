# SPDX-License-Identifier: GPL-2.0-or-later
"""What we put into the kernel stays there, whoever takes it out.

Without rules and routes no packet finds its leg: open connections stand still, and new ones do not come about or are
not bonded. Other programs do take out what they do not know: systemd-networkd when it starts, `nft flush ruleset` in
the first line of many an /etc/nftables.conf.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from common.log import log
from common.loop import IN, Callback, Loop, Timer
from common.system import SystemLacks
from common.watch import Watch

_SETTLES: Final = 0.02  # seconds that others get to finish what they do
_AGAIN: Final = 1.0  # seconds until what the kernel has refused is tried again


class Upkeep:
    """From now on ``put`` is called, with the loop running, whenever ``guard`` hears that any of it is taken out."""

    def __init__(
        self, loop: Loop, guard: Watch, what: str, put: Callback, gone: Callable[[], bool] = lambda: True
    ) -> None:
        """``what`` is for people. ``gone`` looks whether it is, where that may be. Both may raise SystemLacks."""
        self._loop = loop
        self._guard = guard
        self._what = what
        self._put = put
        self._gone = gone
        self._half = False  # it was put in, but perhaps not all of it
        self._timer: Timer | None = None
        loop.add(guard.fileno(), IN, lambda _events: self._on_loss())

    def close(self) -> None:
        """It stays as it is."""
        self._loop.remove(self._guard.fileno())
        self._guard.close()

    def _on_loss(self) -> None:
        if self._guard.changed() and self._timer is None:
            self._timer = self._loop.call_later(_SETTLES, self._put_again)

    def _put_again(self) -> None:
        self._timer = None
        try:
            if self._half or self._gone():
                if not self._half:
                    # or the kernel had more to tell than the guard's socket holds
                    log.warning("another program has taken out %s of ours, it seems: put in again", self._what)
                self._half = True
                self._put()
                self._half = False
        except SystemLacks as lack:
            log.warning("%s of ours are out, tried again: %s", self._what, lack)
            self._timer = self._loop.call_later(_AGAIN, self._put_again)
