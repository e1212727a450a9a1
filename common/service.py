# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon's life once everything is installed, alike in both roles: it tells how it is until it is told to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final, Generic

from common.changes import changes
from common.channel import Message
from common.config import ConfigErrors
from common.control import Command, Reply
from common.daemon import Invocation, RoleConfig, why
from common.log import about, log
from common.loop import Loop
from common.system import SystemLacks
from common.workers import Workers

_RESET: Final = 10.0  # seconds that it takes to end what is left, at most
_RELOAD: Final = 30.0  # seconds that a reload may take, at most: netifd and nft are asked, and waited for
_TICK: Final = 1.0  # seconds between signs of life, at most; a third of what the watchdog allows


class Unchangeable(Exception):
    """The configuration cannot be adopted now; the text says why."""


class Service(Generic[RoleConfig]):
    """``config`` is what the daemon goes by now."""

    def __init__(
        self,
        loop: Loop,
        invocation: Invocation[RoleConfig],
        config: RoleConfig,
        workers: Workers,
        adopt: Callable[[RoleConfig, str], None],
        look_again: Callable[[], None] = lambda: None,
    ) -> None:
        """``adopt`` changes the box and the workers to another configuration with its text.

        It does so wholly, or raises SystemLacks and does nothing. ``look_again`` is called before the configuration is
        read again: who asks for that may know of something else that is new.
        """
        self.config: RoleConfig = config
        self._loop = loop
        self._invocation: Invocation[RoleConfig] = invocation
        self._workers = workers
        self._supervisor = invocation.supervisor
        self._adopt: Callable[[RoleConfig, str], None] = adopt
        self._look_again = look_again
        self._work: Callable[[], str] = str
        self._trouble = ""  # with the configuration that was read last
        self._stopping: float | None = None  # since when
        self._told = ""

    @property
    def commands(self) -> dict[str, Command]:
        """For the control socket."""
        return {
            "log": self._workers.log,
            "reload": lambda _, reply: self._reload(reply),
            "events": self._invocation.events.command,
        }

    def run(self, work: Callable[[], str]) -> None:
        """Returns when the daemon is to end. ``work`` is what it does, in a few words."""
        self._work = work
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._stop)
        self._loop.on_signal(signal.SIGHUP, lambda: self._reload(lambda _: None))
        self._invocation.file("failure").unlink(missing_ok=True)
        log.info("ready: %s", work())
        self._told = self._status()
        self._supervisor.ready(self._told)
        self._tick()
        self._loop.survive(lambda: log.exception("goes on after a fault of this program"))
        self._loop.run()

    def _tick(self) -> None:
        """From the loop itself: one that does not turn gives no sign of life."""
        self._supervisor.alive()
        status = self._status()
        if status != self._told:
            self._told = status
            self._supervisor.status(status)
        allowed = self._supervisor.watchdog
        self._loop.call_later(min(_TICK, allowed / 3) if allowed else _TICK, self._tick)

    def _status(self) -> str:
        if self._stopping is None:
            return "; ".join(filter(None, (self._work(), self._workers.summary, self._trouble)))
        left = max(0.0, self._stopping + self.config.drain - self._loop.now())
        return f"stopping; {self._workers.summary}, reset in {left:.0f} s"

    def _reload(self, reply: Reply) -> None:
        """Replies with what has changed; with errors nothing has."""
        self._supervisor.reloading(self._loop.now(), _RELOAD)
        self._look_again()
        answer: Message = {"changed": [], "errors": []}
        try:
            answer["changed"] = self._read_again()
        except (ConfigErrors, SystemLacks, Unchangeable) as error:
            answer["errors"] = [str(error)] if isinstance(error, Unchangeable) else why(error)[1]
        for sentence in answer["errors"]:
            log.error("the configuration stays as it was: %s", sentence, extra=about(reason=sentence))
        self._trouble = "the configuration file is not in force: " + answer["errors"][0] if answer["errors"] else ""
        if not answer["errors"]:
            changed = ", ".join(answer["changed"]) or "nothing"
            log.info("the configuration is read again; changed: %s", changed, extra=about(changed=changed))
        self._told = self._status()
        self._supervisor.ready(self._told)
        reply(answer)

    def _read_again(self) -> list[str]:
        if self._stopping is not None:
            raise Unchangeable("the daemon is stopping")
        config, text = self._invocation.read()
        found = changes(self.config, config)
        if found.fixed:
            raise Unchangeable(f"cannot change while the daemon runs, restart it: {', '.join(found.fixed)}")
        if found.live:
            self._adopt(config, text)
        if config.log_level is not self.config.log_level:
            self._workers.set_level(config.log_level.value)
        self.config = config
        return list(found.live)

    def _stop(self) -> None:
        """The first time connections may end by themselves for a while, the second time the daemon ends at once."""
        again, drain = self._stopping is not None, self.config.drain
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
