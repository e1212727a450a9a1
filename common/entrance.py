# SPDX-License-Identifier: GPL-2.0-or-later
"""What control opens for a worker and its gates, before the fork: queues, listeners, raw sockets."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common import transparent
from common.nfqueue import Queue
from common.replay import Replay
from common.role import Role
from common.room import Limits
from common.system import SystemLacks, Unavailable, families


@dataclass(frozen=True, slots=True)
class Duty:
    """One gate that every worker has. The worker's number is added to ``queue`` and ``port``."""

    role: Role
    queue: int
    port: int
    release: Callable[[int], int]  # the mark of released SYNs, by the worker's number
    share: float = 1.0  # of the connections that a worker may have


@dataclass(frozen=True, slots=True)
class Entrance:
    """What a gate works with."""

    duty: Duty
    queue: Queue
    listeners: Sequence[socket.socket]
    release_mark: int
    limits: Limits
    replay: Replay | None

    def close(self) -> None:
        self.queue.close()
        self.close_but_queue()

    def close_but_queue(self) -> None:
        for listener in self.listeners:
            listener.close()
        if self.replay:
            self.replay.close()

    def descriptors(self) -> set[int]:
        listeners = (listener.fileno() for listener in self.listeners)
        return {self.queue.fileno(), *listeners, *(self.replay.descriptors() if self.replay else ())}


@dataclass(frozen=True, slots=True)
class Equipment:
    """What control opens for a worker: so what is missing or taken is found out before anything is changed."""

    entrances: Sequence[Entrance]
    channel: socket.socket
    roles: Callable[[str], Sequence[Role]]  # of the same gates, by the text of another configuration

    def hand_over(self) -> list[Queue]:
        """Closes what a worker has now, all but the queues, and gives these."""
        for entrance in self.entrances:
            entrance.close_but_queue()
        self.channel.close()
        return [entrance.queue for entrance in self.entrances]

    def descriptors(self) -> set[int]:
        return {self.channel.fileno()}.union(*(entrance.descriptors() for entrance in self.entrances))


def enter(duty: Duty, number: int, limits: Limits) -> Entrance:
    """Opens that of the worker with this number. Raises SystemLacks if a port or the queue cannot be had."""
    queue, port = duty.queue + number, duty.port + number
    with contextlib.ExitStack() as undo:
        listeners = []
        for family in families():
            try:
                role = duty.role
                listener = transparent.listener(family, port, role.client_protocol, role.client_mark, role.flow_buffer)
            except OSError as error:
                raise _no_listener(error, port) from None
            undo.callback(listener.close)
            listeners.append(listener)
        try:
            waiting = Queue(queue)
        except OSError as error:
            raise _no_queue(error, queue) from None
        undo.callback(waiting.close)
        mark = duty.release(number)
        try:
            replay = Replay(mark, families()) if duty.role.replays else None
        except OSError as error:
            raise SystemLacks(f"cannot have a raw socket: {error.strerror}") from None
        undo.pop_all()
        return Entrance(duty, waiting, listeners, mark, limits, replay)


def _no_listener(error: OSError, port: int) -> SystemLacks:
    if error.errno == errno.EADDRINUSE:
        taken = f"port {port} on the loopback address is taken by another program"
        return Unavailable(f"{taken} (option 'listen_port' names another)")
    return SystemLacks(f"cannot listen on loopback port {port}: {error.strerror}")


def _no_queue(error: OSError, queue: int) -> SystemLacks:
    if error.errno in (errno.EPERM, errno.EBUSY):  # we have the privilege: so somebody else has the queue
        return Unavailable(f"netfilter queue {queue} is taken by another program (option 'queue' names another)")
    return SystemLacks(f"the kernel has no netfilter queue for us (CONFIG_NETFILTER_NETLINK_QUEUE): {error.strerror}")
