# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to the paths of Multipath TCP connections, as the kernel tells it. A token names a connection."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a subflow. ``id`` is its MPTCP address id, ``device`` the ifindex to use or 0."""

    address: str
    port: int = 0
    id: int = 0
    device: int = 0

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


@dataclass(frozen=True, slots=True)
class Created:
    """A connection begins: its first SYN is answered."""

    token: int


@dataclass(frozen=True, slots=True)
class Established:
    """The connection is complete for the path manager: subflows may be added.

    One of family AF_INET6 takes subflows of both families, one of AF_INET its own only.
    """

    token: int
    family: int


@dataclass(frozen=True, slots=True)
class Closed:
    token: int


@dataclass(frozen=True, slots=True)
class Announced:
    """The peer says that it can be reached at this address (ADD_ADDR)."""

    token: int
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class SubflowEstablished:
    token: int
    local: Endpoint
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class SubflowClosed:
    """``error`` is the errno it ended with, 0 for an orderly end."""

    token: int
    local: Endpoint
    remote: Endpoint
    error: int


@dataclass(frozen=True, slots=True)
class JoinFailed:
    """The kernel did not take the order for the subflow with this local address id; ``error`` is an errno value."""

    token: int
    id: int
    error: int


PathEvent = Created | Established | Closed | Announced | SubflowEstablished | SubflowClosed | JoinFailed
