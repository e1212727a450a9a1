# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon's life once everything is installed, alike in both roles: it tells how it is until it is told to stop."""

from __future__ import annotations

import signal
from typing import Final

from common.config import CpeConfig, HagConfig
from common.daemon import Invocation
from common.log import log
from common.loop import Loop
from common.workers import Workers

_RESET: Final = 10.0  # seconds that it takes to end what is left, at most
_TICK: Final = 1.0  # seconds between signs of life, at most; a third of what the watchdog allows


class Service:
    """``work`` is what the daemon does, in a few words."""

    def __init__(
        self, loop: Loop, invocation: Invocation, config: CpeConfig | HagConfig, workers: Workers, work: str
    ) -> None:
        self._loop = loop
        self._config = config
        self._workers = workers
        self._supervisor = invocation.supervisor
        self._work = work
        self._stopping: float | None = None  # since when
        self._told = ""

    def run(self) -> None:
        """Returns when the daemon is to end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._stop)
        log.info("ready: %s", self._work)
        self._told = self._status()
        self._supervisor.ready(self._told)
        self._tick()
        self._loop.run()

    def _tick(self) -> None:
        """From the loop itself: one that does not turn gives no sign of life."""
        self._supervisor.alive()
        status = self._status()
        if status != self._told:
            self._told = status
            self._supervisor.status(status)
        self._loop.call_later(min(_TICK, (self._supervisor.watchdog or _TICK) / 3), self._tick)

    def _status(self) -> str:
        if self._stopping is None:
            return f"{self._work}; {self._workers.summary}"
        left = max(0.0, self._stopping + self._config.drain - self._loop.now())
        return f"stopping; {self._workers.summary}, reset in {left:.0f} s"

    def _stop(self) -> None:
        """The first time connections may end by themselves for a while, the second time the daemon ends at once."""
        again, drain = self._stopping is not None, self._config.drain
        self._stopping = self._loop.now()
        if again or not drain:
            log.info("stopping")
            self._supervisor.stopping(_RESET, "stopping")
            self._loop.stop()
            return
        log.info("stopping: connections have %d s to end by themselves", drain)
        self._supervisor.stopping(drain + _RESET, self._status())
        self._loop.call_later(drain, self._loop.stop)
        self._workers.drain(self._loop.stop)
