# SPDX-License-Identifier: GPL-2.0-or-later
"""The event loop of every process here: epoll, timers, signals. It is the only reader of the clock.

Why not asyncio: a relayed connection lives on two file descriptors and a handful of wake-ups, and a
plain table of callbacks costs a third of what transports and futures cost for each of them.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final

IN = select.EPOLLIN
OUT = select.EPOLLOUT
RDHUP = select.EPOLLRDHUP
HUP = select.EPOLLHUP
ERR = select.EPOLLERR
EDGE = select.EPOLLET

_AGAIN = 1.0  # seconds until a timer that failed is called again, where faults are survived
_FAULTS, _FAULTS_IN = 100, 10.0  # so many in as many seconds are no accident

Handler = Callable[[int], None]
Callback = Callable[[], None]

# Signals are the process's. What comes between two loops, or a loop does not get round to, is for the next one.
_undelivered: Final[deque[int]] = deque()
os.register_at_fork(after_in_child=_undelivered.clear)  # it was the parent who was told


class Timer:
    """A call that is due at ``when`` (seconds, monotonic); ``cancel()`` forgets it."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Calls a handler with its epoll events, timers when due, and signal handlers outside signal context."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._fresh: set[int] = set()  # watched since the events at hand were read
        self._soon: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._signals: dict[int, Callback] = {}
        self._wakeup: socket.socket | None = None
        self._running = True
        self._complain: Callback | None = None
        self._faults: deque[float] = deque(maxlen=_FAULTS)
        self.failure: str | None = None

    @staticmethod
    def now() -> float:
        return time.monotonic()

    def add(self, fd: int, events: int, handler: Handler) -> None:
        """Watches ``fd``; a descriptor is watched once, and must be removed before it is closed."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler
        self._fresh.add(fd)

    def replace(self, fd: int, handler: Handler) -> None:
        """Another handler for a descriptor that is watched already."""
        self._handlers[fd] = handler

    def remove(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def forget(self, fd: int) -> None:
        """Like remove() for a descriptor that the caller closes at once: closing its last copy leaves epoll too."""
        self._handlers.pop(fd, None)

    def call_soon(self, callback: Callback) -> None:
        """Calls back after the events at hand: how long work gives way to other descriptors."""
        self._soon.append(callback)

    def call_at(self, when: float, callback: Callback) -> Timer:
        timer = Timer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        return self.call_at(self.now() + seconds, callback)

    def on_signal(self, number: int, callback: Callback) -> None:
        """Calls back from the loop, between events, after ``number`` was delivered to the process.

        It may have come before, if an earlier loop wanted it and has not called back any more.
        """
        if self._wakeup is None:
            reader, writer = socket.socketpair()
            reader.setblocking(False)
            writer.setblocking(False)
            self._wakeup = reader
            self._wakeup_writer = writer
            signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            self.add(reader.fileno(), IN, self._deliver_signals)
            writer.send(b"\0")  # to look at once for what came before
        self._signals[number] = callback
        signal.signal(number, lambda number, _: _undelivered.append(number))

    def stop(self, failure: str | None = None) -> None:
        """Ends run() after the events at hand; before run(), it does not begin. ``failure`` says why, if it was one."""
        self._running = False
        self.failure = self.failure or failure

    def survive(self, complain: Callback) -> None:
        """From now on a callback that raises costs what it was called for, and not the process.

        ``complain`` is called where the exception can be logged. A timer is called again a second later: what it does
        at intervals goes on. Where faults come in numbers run() raises all the same.
        """
        self._complain = complain

    def run(self) -> None:
        poll = self._epoll.poll
        handlers, fresh = self._handlers, self._fresh
        while self._running:
            fresh.clear()
            for fd, events in poll(self._patience(), 256):
                # The handler of an earlier event may have closed this descriptor, and a new one have got its number.
                handler = handlers.get(fd)
                if handler is not None and fd not in fresh:
                    try:
                        handler(events)
                    except Exception:
                        self._on_fault()
            for _ in range(len(self._soon)):
                try:
                    self._soon.popleft()()
                except Exception:
                    self._on_fault()
            if self._timers:
                self._run_timers()

    def close(self) -> None:
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)
            self._wakeup.close()
            self._wakeup_writer.close()
        self._epoll.close()

    def _patience(self) -> float:
        if self._soon:
            return 0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return -1
        return max(0.0, self._timers[0][0] - self.now())

    def _run_timers(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                try:
                    timer.callback()
                except Exception:
                    self._on_fault()
                    timer.when = now + _AGAIN
                    heapq.heappush(self._timers, (timer.when, next(self._order), timer))

    def _on_fault(self) -> None:
        """Called where an exception is handled."""
        now = self.now()
        self._faults.append(now)
        often = len(self._faults) == _FAULTS and now - self._faults[0] < _FAULTS_IN
        if self._complain is None or often:
            raise
        self._complain()

    def _deliver_signals(self, _events: int) -> None:
        assert self._wakeup is not None
        self._wakeup.recv(64)  # only wakes: Python has called the handlers above before it gets here
        while _undelivered:
            callback = self._signals.get(_undelivered.popleft())
            if callback is not None:
                callback()
