# SPDX-License-Identifier: GPL-2.0-or-later
"""What an open connection takes of a worker's memory while it has nothing to do, by the allocator's own account."""

import contextlib
import gc
import os
import socket
import sys
import tracemalloc

from common.connection import Connection, Held, Key
from common.flow import Event, State
from common.loop import Loop
from common.nfqueue import QueuedPacket
from common.proof import Proof
from common.relay import PipePool

FIRST = 20  # that fill what all share
CONNECTIONS = 200
MOST = 1536  # bytes each, with both sockets as Python has them and the entries in tables


class FakeQueue:
    def verdict(self, _packet_id: int, _verdict: int, _mark: int, _payload: bytes | None = None) -> None: ...


class FakeOwner:
    """What a gate is to a connection, with a table of them."""

    join_after = 1 << 16
    patience = 20.0
    tries_plain = False

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.queue = FakeQueue()
        self.pipes = PipePool(0)
        self.connections: dict[Key, Connection] = {}

    def report_growth(self, _token: int, _policy: str) -> None: ...
    def count(self, _what: str) -> None: ...
    def release(self, _connection: Connection, _syn: Held) -> None: ...
    def opened(self, _connection: Connection) -> None: ...
    def forget(self, _connection: Connection) -> None: ...
    def look_at(self, _connection: Connection) -> None: ...
    def found(self, _connection: Connection, _proof: Proof) -> None: ...
    def failed(self, connection: Connection, _syn: Held | None) -> None:
        raise AssertionError(connection.key)

    def open(self, number: int, near: int, far: int) -> Connection:
        """One connection between two descriptors, from its SYN to where bytes go both ways."""
        # Addresses as the parser makes them, each time anew; shared as the gate does it.
        client, server = (sys.intern(".".join(["192", "0", "2", last])) for last in ("10", "20"))
        key = (client, 20_000 + number, server, 30_000 + number)
        syn = QueuedPacket(number, 0, 1, bytes(60))
        leg = socket.socket(fileno=far)
        connection = Connection(self, key, syn, 1 << 30 | number, self.loop.now())  # type: ignore[arg-type]
        connection.connect(leg)
        connection._on_connecting(0)
        connection.accepted(socket.socket(fileno=near))
        self.connections[key] = connection
        return connection


def test_an_open_connection_takes_less_than_two_kilobytes() -> None:
    with contextlib.ExitStack() as undo:
        loop = Loop()
        undo.callback(loop.close)
        owner = FakeOwner(loop)
        pairs = [socket.socketpair() for _ in range(2 * (FIRST + CONNECTIONS))]
        for end in (end for pair in pairs for end in pair):
            undo.enter_context(end)
            end.setblocking(False)
        # A leg of its own for each connection; the other ends stay with us.
        legs = [
            (os.dup(near.fileno()), os.dup(far.fileno()))
            for (near, _), (far, _) in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        for number in range(FIRST):
            owner.open(number, *legs[number])
        tracemalloc.start()
        try:
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            for number in range(FIRST, FIRST + CONNECTIONS):
                assert owner.open(number, *legs[number]).state is State.OPEN
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for connection in owner.connections.values():
            connection.handle(Event.BROKEN)
    assert (after - before) / CONNECTIONS < MOST
