# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker process: its gates, each with a queue and listeners, and the connections that begin there.

Nothing is shared with other workers but what each finds out of the way to servers, see hear().

Control may die and take nothing with it: a worker that loses its channel takes no more connections, so that those
begin unbonded or at a new daemon's workers, and stays for the ones it has.
"""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter, defaultdict
from dataclasses import replace
from functools import partial
from typing import Any, Final

from common import log as logging
from common import privilege
from common.channel import Channel, Message
from common.connection import Connection
from common.entrance import Equipment
from common.flow import Event, State
from common.gate import Gate
from common.log import log
from common.loop import Loop
from common.role import Decision, Role
from common.room import Limits

_BATCH: Final = 0.005  # seconds that news for control may wait for company
_LAST_FLOWS: Final = 1.0  # seconds between looks whether the last connection of an orphan has ended
_DRAINED: Final = 0.05  # the same of a worker that is to stop

STOPPING: Final = Decision("the daemon is stopping")


class Worker:
    """Joins gates and channel."""

    def __init__(self, loop: Loop, equipment: Equipment) -> None:
        self._loop = loop
        self._equipment = equipment
        self._channel = Channel(loop, equipment.channel, self._on_message, self._on_orphaned)
        self._gates = [
            Gate(loop, it.duty.role, it.queue, it.listeners, it.release_mark, it.limits, self._report_growth, it.replay)
            for it in equipment.entrances
        ]
        self._news: Message | None = None  # of the way to servers
        self._roles = [entrance.duty.role for entrance in equipment.entrances]
        self._grown: defaultdict[str, list[int]] = defaultdict(list)  # tokens by policy
        for place, role in enumerate(self._roles):
            if role.experience is not None:
                role.experience.share(partial(self._report_found, place))

    @property
    def _connections(self) -> list[Connection]:
        return [connection for gate in self._gates for connection in gate.all()]

    def _report_growth(self, token: int, policy: str) -> None:
        if not self._grown:
            self._loop.call_later(_BATCH, self._send_growth)
        self._grown[policy].append(token)

    def _send_growth(self) -> None:
        self._channel.send({"grown": self._grown})
        self._grown.clear()

    def _report_found(self, place: int, news: list[Any]) -> None:
        self._channel.send({"found": news, "gate": place})

    def _on_message(self, message: Message) -> None:
        match message:
            case {"ask": "alive"}:
                self._channel.send({"alive": len(self._connections)})
            case {"anew": float(since)}:
                for gate in self._gates:
                    gate.queue_ended(since)
                self._channel.send({"anew": since})
            case {"ask": "status", "id": number}:
                self._channel.send({"answer": number, "pid": os.getpid(), **self._status()})
            case {"ask": "flows", "id": number}:
                flows = [flow for gate in self._gates for flow in gate.describe()]
                self._channel.send({"answer": number, "flows": flows})
            case {"log": str(level)}:
                logging.set_level(level)
            case {"adopt": str(text), "limits": [*limits]}:
                self._adopt(text, [Limits(*each) for each in limits])
            case {"drain": _}:
                self._drain()
            case {"hear": [*news], "gate": int(place)}:
                hear(self._roles[place], news)
            case {"learn": dict(news)}:
                self._learn(news)
            case {"stop": _}:
                self._stop()

    def _learn(self, news: Message) -> None:
        for role in self._roles:
            if role.learn is not None:
                role.learn(news)
        if self._news not in (None, news):
            for gate in self._gates:
                gate.begin_anew()
        self._news = news

    def _status(self) -> Message:
        counters: Counter[str] = Counter()
        for gate in self._gates:
            counters.update(gate.counters)
        avoided = [it for gate in self._gates for it in gate.avoided()]
        return {"flows": len(self._connections), "counters": dict(counters), "avoided": avoided}

    def _stop(self) -> None:
        self._close_gates()
        for connection in self._connections:
            if connection.state is not State.HELD:
                connection.handle(Event.EXPIRED if connection.state is State.RELEASED else Event.BROKEN)
        self._loop.stop()

    def _adopt(self, text: str, limits: list[Limits]) -> None:
        """Goes by another configuration, which control has read by the same rules."""
        try:
            roles = self._equipment.roles(text)
        except Exception:
            log.exception("worker %d goes on by the old configuration", os.getpid())
            return
        for gate, role, allowed in zip(self._gates, roles, limits, strict=True):
            gate.adopt(role, allowed)

    def _drain(self) -> None:
        """Connections end by themselves, also those that have just begun; no more are bonded."""
        for gate, it in zip(self._gates, self._equipment.entrances, strict=True):
            gate.adopt(replace(it.duty.role, decide=lambda _syn, _device: STOPPING))
        self._leave_when_idle(_DRAINED)

    def _close_gates(self) -> None:
        for gate in self._gates:
            gate.close()

    def _on_orphaned(self) -> None:
        log.warning("control is gone: %d connections go on, no more are taken", len(self._connections))
        self._loop.on_signal(signal.SIGTERM, self._stop)
        self._close_gates()
        self._leave_when_idle(_LAST_FLOWS)

    def _leave_when_idle(self, pause: float) -> None:
        if not self._connections:
            self._loop.stop()
            return
        self._loop.call_later(pause, lambda: self._leave_when_idle(pause))


def hear(role: Role, news: list[Any]) -> None:
    """What another worker has found out of the way to servers, at its gate for this role."""
    if role.experience is not None:
        role.experience.hear(news)


def run(equipment: Equipment) -> None:
    """The whole life of a worker, in a process that was forked for it. Does not return."""
    status = 1
    try:
        _leave_control_behind(equipment)
        privilege.drop_the_rest()
        loop = Loop()
        # ^C, and a service manager's SIGTERM, reach every process at once: control will tell us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # What has been imported stays: the collector need not look at it again.
        gc.freeze()
        Worker(loop, equipment)
        loop.run()
        status = 0
    except BaseException:
        log.exception("the worker fails; its connections are reset")
    finally:
        os._exit(status)


def _leave_control_behind(equipment: Equipment) -> None:
    """Closes what came with the fork: control's sockets, and its ends of the other workers' channels."""
    signal.set_wakeup_fd(-1)
    keep = equipment.descriptors() | logging.descriptors() | {0, 1, 2}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                continue  # the listing's own descriptor
