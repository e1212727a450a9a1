# SPDX-License-Identifier: GPL-2.0-or-later
"""The primary link as workers know it: where the first subflows of connections begin. Control tells them of changes."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from common.channel import Message


class Upstream:
    """``lacks`` says why connections of a family cannot begin now."""

    def __init__(self) -> None:
        self._addresses: Mapping[int, str] = {}
        self._down: str | None = None

    @property
    def address(self) -> str:
        """The IPv4 address, which is also where port forwards are; an address of nobody if there is none."""
        return self._addresses.get(socket.AF_INET, "0.0.0.0")

    def lacks(self, family: int) -> str | None:
        if self._down is not None:
            return self._down
        return None if family in self._addresses else "primary link lacks the address family"

    def change(self, addresses: Mapping[int, str], down: str | None) -> None:
        """``addresses`` by family; ``down`` says why no connection is to begin, whatever the addresses."""
        self._addresses, self._down = addresses, down

    def told(self) -> Message:
        """For learn(), in another process."""
        return {"addresses": list(self._addresses.items()), "down": self._down}

    def learn(self, message: Message) -> None:
        self.change(dict(message["addresses"]), message["down"])
