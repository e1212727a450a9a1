# SPDX-License-Identifier: GPL-2.0-or-later
"""Which subscribers' accesses lose SYNs with MP_CAPABLE, or take the option out of data. Pure: answers in, advice out.

For connections that the Internet opens. Each subscriber has a way of his own, and all of his addresses are at its end:
what is learnt of one holds for all of them and for nobody else, whoever the client is. So one loss is enough, and what
one subscriber's hosts or clients do is no matter to another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common.blackholes import Blackholes, News
from common.mptcp import Answer
from hag.subscribers import Subscribers


class Accesses:
    """What has been learnt. Addresses are text, times seconds of one clock. Workers share it as they do Blackholes."""

    def __init__(self, syns: int, subscribers: Subscribers) -> None:
        """``syns`` is how many times the kernel sends a SYN with the option before it leaves it out."""
        self._memory = Blackholes(syns)
        self._subscribers = subscribers

    def share(self, tell: Callable[[News], None]) -> None:
        """As Blackholes.share()."""
        self._memory.share(tell)

    def hear(self, news: News) -> None:
        """As Blackholes.hear()."""
        self._memory.hear(news)

    def avoid(self, _client: str, address: str, now: float) -> str | None:
        """Why a new connection to this address of a subscriber had better pass unbonded; None if it is to try."""
        name = self._subscribers.name(address)
        return self._memory.avoid(name, name, now)

    def learn(self, _client: str, address: str, answer: Answer | None, began: float, now: float) -> str | None:
        """As Blackholes.learn()."""
        name = self._subscribers.name(address)
        return self._memory.learn(name, name, answer, began, now)

    def proved(self, _client: str, address: str, carried: bool, began: float, now: float) -> None:
        """As Blackholes.proved()."""
        name = self._subscribers.name(address)
        self._memory.proved(name, name, carried, began, now)

    def describe(self, now: float) -> list[dict[str, Any]]:
        """What is avoided now: 'destination', a subscriber, and 'seconds' left."""
        return [
            {"destination": it.get("destination") or it["host"], "seconds": it["seconds"]}
            for it in self._memory.describe(now)
        ]
