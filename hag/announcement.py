# SPDX-License-Identifier: GPL-2.0-or-later
"""The addresses for further subflows, announced as soon as the kernel can listen there.

After a restart it cannot for up to a minute: subflows that have just ended are in TIME_WAIT on the port, and the
kernel's listener does not ask for SO_REUSEADDR. Until then connections are bonded over their first subflow alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common.log import log
from common.loop import Loop
from common.path_events import Endpoint
from common.path_manager import Announcer, PortWaits

_AGAIN: Final = 1.0  # seconds


class Announcement:
    """Keeps trying until every endpoint is announced."""

    def __init__(self, loop: Loop, announcer: Announcer, endpoints: Sequence[Endpoint]) -> None:
        self._loop = loop
        self._announcer = announcer
        self._endpoints = endpoints
        self._waiting = list(endpoints)

    def start(self) -> None:
        """Raises SystemLacks if an endpoint cannot be had, for instance because another program listens there."""
        for endpoint in list(self._waiting):
            try:
                self._announcer.announce(endpoint)
            except PortWaits:
                log.warning(
                    "%s port %d is held by subflows that have just ended: announced when it is free",
                    endpoint.address,
                    endpoint.port,
                )
            else:
                self._waiting.remove(endpoint)
        self._wait()

    def withdraw(self) -> None:
        self._waiting.clear()
        self._announcer.withdraw(self._endpoints)

    def _wait(self) -> None:
        if self._waiting:
            self._loop.call_later(_AGAIN, self._try_again)

    def _try_again(self) -> None:
        for endpoint in list(self._waiting):
            try:
                self._announcer.announce(endpoint)
            except PortWaits:
                continue
            self._waiting.remove(endpoint)
            log.info("%s port %d is announced", endpoint.address, endpoint.port)
        self._wait()
