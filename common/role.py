# SPDX-License-Identifier: GPL-2.0-or-later
"""What a gate is told to do: what CPE and HAG do differently there, and what becomes of a new SYN."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from common.connection import Key
from common.flow import LIFETIME, State
from common.mptcp import Answer
from common.packet import Segment
from common.transparent import Address

GOES_ON_WITHOUT: Final = "the router that asked for Multipath TCP goes on without"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a new SYN. ``passed`` says why it is not bonded; None if it is.

    ``untouched``: it keeps its MP_CAPABLE even where the role strips that. ``policy`` is what control is told of the
    connection besides its token.
    """

    passed: str | None = None
    untouched: bool = False
    policy: str = ""


BOND = Decision()


class Experience(Protocol):
    """What is known of the way to servers: connections that had better pass, and what became of those that did not.

    It tells, in what JSON has, whatever another worker's had better hear.
    """

    def avoid(self, host: str, destination: str, now: float) -> str | None: ...
    def learn(self, host: str, destination: str, answer: Answer | None, began: float, now: float) -> str | None: ...
    def proved(self, host: str, destination: str, carried: bool, began: float, now: float) -> None: ...
    def describe(self, now: float) -> list[dict[str, Any]]: ...
    def share(self, tell: Callable[[list[Any]], None]) -> None: ...
    def hear(self, news: list[Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Role:
    """What CPE and HAG do differently at the gate."""

    client_protocol: int  # of the listener
    server_protocol: int
    decide: Callable[[Segment, int], Decision]  # of a SYN and the ifindex where it arrived
    source: Callable[[Segment], Address]  # where the server leg comes from
    host: Callable[
        [Key], Hashable
    ]  # whose connection it is, for limits: one host's, or one subscriber's with all of his
    server_mark: int  # of what the server leg sends
    strips: bool  # MP_CAPABLE is taken out of SYNs that are passed on
    join_after: int  # bytes after which control hears of a connection
    flow_buffer: int  # bytes of a connection that may be here at a time, in each direction
    tries_plain: bool = False  # what gets no answer as Multipath TCP, since the kernel does not
    experience: Experience | None = None  # each worker has its own, which comes with the fork and tells the others'
    plain: str = GOES_ON_WITHOUT  # why a connection is not bonded, where no experience says it
    client_mark: int = 0  # of what the client legs send
    patience: float = LIFETIME[State.RELEASED]  # seconds that a client whose SYN is released may take to finish
    replays: bool = False  # released SYNs begin again on this host, since they wait where packets are forwarded
    addressed: Callable[[Segment, int], Address] | None = None  # where a SYN, with its mark, went before NAT
    learn: Callable[[dict[str, Any]], None] | None = None  # what control has to say of the way to servers
