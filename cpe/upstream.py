# SPDX-License-Identifier: GPL-2.0-or-later
"""The primary link as workers know it: where the first subflows of connections begin. Control tells them of changes."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping

from common.channel import Message


class Upstream:
    """``lacks`` says why connections of a family cannot begin now."""

    def __init__(self) -> None:
        self._addresses: Mapping[int, str] = {}
        self._down: str | None = None
        self._families: Collection[int] = ()

    @property
    def address(self) -> str:
        """The IPv4 address, which is also where port forwards are; an address of nobody if there is none."""
        return self._addresses.get(socket.AF_INET, "0.0.0.0")

    def lacks(self, family: int) -> str | None:
        if self._down is not None:
            return self._down
        # Over IPv6 the clients' own addresses are used. An operator may delegate a prefix and give the router none.
        if family in self._addresses or (family == socket.AF_INET6 and family in self._families):
            return None
        return "primary link lacks the address family"

    def change(self, addresses: Mapping[int, str], down: str | None, families: Collection[int] = ()) -> None:
        """``addresses`` by family; ``down`` says why no connection is to begin, whatever the addresses.

        ``families`` are those with a default route, with an address or without.
        """
        self._addresses, self._down, self._families = addresses, down, families

    def told(self) -> Message:
        """For learn(), in another process."""
        return {"addresses": list(self._addresses.items()), "down": self._down, "families": list(self._families)}

    def learn(self, message: Message) -> None:
        self.change(dict(message["addresses"]), message["down"], message["families"])
