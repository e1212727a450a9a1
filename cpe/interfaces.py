# SPDX-License-Identifier: GPL-2.0-or-later
"""The devices of links that are configured by the name of their network; others have theirs in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from common import netifd
from common.config import CpeConfig
from common.log import log
from common.system import SystemLacks

_AGAIN: Final = 1.0  # seconds between questions: changes come in crowds, and not each is worth one


class Interfaces:
    """``devices`` are what netifd has said last, by interface; before the first question there are none."""

    def __init__(self, config: CpeConfig) -> None:
        self._links = [link for link in config.links if link.interface]
        self.devices: Mapping[str, str] = {}
        self._asked = float("-inf")
        self._unanswered = ""

    def __bool__(self) -> bool:
        return bool(self._links)

    def lack(self, up: Mapping[str, object]) -> bool:
        """Whether one of theirs is not among the links that are up, so that netifd may have another device for it."""
        return any(link.name not in up for link in self._links)

    def ask(self, now: float) -> float | None:
        """Asks netifd; or else says when that may be done again."""
        if now < self._asked + _AGAIN:
            return self._asked + _AGAIN
        self._asked = now
        try:
            self.devices, self._unanswered = netifd.devices(), ""
        except SystemLacks as lack:
            if str(lack) != self._unanswered:
                self._unanswered = str(lack)
                names = ", ".join(f"'{link.interface}'" for link in self._links)
                log.warning("interface %s: %s", names, lack)
        return None

    def forget(self) -> None:
        """The next question may be asked at once: somebody knows that it has another answer."""
        self._asked = float("-inf")
