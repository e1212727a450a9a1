# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker process: one queue, its listeners, and the connections that begin there. Nothing is shared with others.

Control may die and take nothing with it: a worker that loses its channel takes no more connections, so that those
begin unbonded or at a new daemon's workers, and stays for the ones it has.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from common import privilege
from common.channel import Channel, Message
from common.flow import Event, State
from common.gate import Gate, Limits, Role
from common.log import log
from common.loop import Loop
from common.nfqueue import Queue

_BATCH: Final = 0.005  # seconds that news for control may wait for company
_LAST_FLOWS: Final = 1.0  # seconds between looks whether the last connection of an orphan has ended


@dataclass(frozen=True, slots=True)
class Equipment:
    """What control opens for a worker: so what is missing or taken is found out before anything is changed."""

    queue: Queue
    listeners: Sequence[socket.socket]
    channel: socket.socket

    def close(self) -> None:
        self.queue.close()
        for sock in (*self.listeners, self.channel):
            sock.close()

    def descriptors(self) -> set[int]:
        return {
            self.queue.fileno(),
            self.channel.fileno(),
            *(listener.fileno() for listener in self.listeners),
        }


class Worker:
    """Joins gate and channel."""

    def __init__(self, loop: Loop, role: Role, equipment: Equipment, release_mark: int, limits: Limits) -> None:
        self._loop = loop
        self._channel = Channel(loop, equipment.channel, self._on_message, self._on_orphaned)
        self._gate = Gate(loop, role, equipment.queue, equipment.listeners, release_mark, limits, self._report_growth)
        self._grown: list[int] = []

    def _report_growth(self, token: int) -> None:
        if not self._grown:
            self._loop.call_later(_BATCH, self._send_growth)
        self._grown.append(token)

    def _send_growth(self) -> None:
        self._channel.send({"grown": self._grown})
        self._grown = []

    def _on_message(self, message: Message) -> None:
        match message:
            case {"ask": "alive"}:
                self._channel.send({"alive": True})
            case {"ask": "status", "id": number}:
                self._channel.send({"answer": number, "pid": os.getpid(), **self._status()})
            case {"ask": "flows", "id": number}:
                self._channel.send({"answer": number, "flows": self._gate.describe()})
            case {"stop": _}:
                self._stop()

    def _status(self) -> Message:
        gate = self._gate
        return {"flows": len(gate.connections), "counters": dict(gate.counters), "avoided": gate.avoided()}

    def _stop(self) -> None:
        self._gate.close()
        for connection in list(self._gate.connections.values()):
            if connection.state is not State.HELD:
                connection.handle(Event.EXPIRED if connection.state is State.RELEASED else Event.BROKEN)
        self._loop.stop()

    def _on_orphaned(self) -> None:
        log.warning("control is gone: %d connections go on, no more are taken", len(self._gate.connections))
        self._loop.on_signal(signal.SIGTERM, self._stop)
        self._gate.close()
        self._leave_when_idle()

    def _leave_when_idle(self) -> None:
        if not self._gate.connections:
            self._loop.stop()
            return
        self._loop.call_later(_LAST_FLOWS, self._leave_when_idle)


def run(role: Role, equipment: Equipment, release_mark: int, limits: Limits) -> None:
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
        Worker(loop, role, equipment, release_mark, limits)
        loop.run()
        status = 0
    except BaseException:
        log.exception("the worker fails; its connections are reset")
    finally:
        os._exit(status)


def _leave_control_behind(equipment: Equipment) -> None:
    """Closes what came with the fork: control's sockets, and its ends of the other workers' channels."""
    signal.set_wakeup_fd(-1)
    keep = equipment.descriptors() | {0, 1, 2}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                continue  # the listing's own descriptor
