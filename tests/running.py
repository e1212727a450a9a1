# SPDX-License-Identifier: GPL-2.0-or-later
"""A loop in a thread of its own, so that a test can play the peers with plain blocking calls."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from common.loop import IN, Loop

PATIENCE = 10.0  # seconds, for what should take milliseconds

T = TypeVar("T")


class RunningLoop:
    """Runs ``loop`` from enter to exit; an exception that ended it is raised at exit."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self.loop.add(self._wake, IN, self._perform_calls)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self.call(self.loop.stop)
            self._thread.join(PATIENCE)
        self.loop.close()
        os.close(self._wake)
        if self._failure is not None:
            raise self._failure

    def call(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, done in the loop's thread: the loop's things are not for two threads."""
        promise: Future[T] = Future()
        self._calls.append((work, promise))
        os.eventfd_write(self._wake, 1)
        return promise.result(PATIENCE)

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as failure:
            self._failure = failure

    def _perform_calls(self, _events: int) -> None:
        os.eventfd_read(self._wake)
        while self._calls:
            work, promise = self._calls.popleft()
            try:
                promise.set_result(work())
            except BaseException as error:
                promise.set_exception(error)


def until(condition: Callable[[], T], what: str = "it happens") -> T:
    """Looks again and again until ``condition()`` is true, and returns it; fails after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{PATIENCE:g} seconds were not enough until {what}")
        time.sleep(0.001)
    return found
