# SPDX-License-Identifier: GPL-2.0-or-later
"""The devices of links and LANs that are configured by the name of their network; others are named themselves."""

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
        self.devices: Mapping[str, str] = {}
        self._asked = float("-inf")
        self._unanswered = ""
        self.adopt(config)

    def adopt(self, config: CpeConfig) -> None:
        """Goes by another configuration from now on."""
        self._links = {link.name: link.interface for link in config.links if link.interface}
        self._lan = config.lan_interface

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._links or self._lan)

    def lack(self, up: Mapping[str, object]) -> bool:
        """Whether netifd may know more by now: of a link that is not among those that are up, or of a LAN."""
        return not self._links.keys() <= up.keys() or not self.devices.keys() >= set(self._lan)

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
                names = ", ".join(f"'{name}'" for name in (*self._links.values(), *self._lan))
                log.warning("interface %s: %s", names, lack)
        return None

    def forget(self) -> None:
        """The next question may be asked at once: somebody knows that it has another answer."""
        self._asked = float("-inf")
