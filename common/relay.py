# SPDX-License-Identifier: GPL-2.0-or-later
"""The data path: bytes from leg to leg. This page runs for every wake-up of every connection, so each line counts.

A connection's first bytes are copied through one buffer that all connections share: short connections, which are
most, cost two system calls a message and no descriptor more. From COPIED bytes on they go through a pipe with
splice(2) and never enter Python; pipes come from a pool and are held only while bytes are in them.

Descriptors are watched edge-triggered and registered once. So an edge must never be forgotten: a half goes on until
the kernel says EAGAIN, and it knows of which side: with an empty pipe the source has nothing, with a filled one the
sink takes no more (splice reports both in the same way). When copying, it need not be told: a source that gave less
than the buffer holds had no more, and whatever comes later is an edge of its own (epoll(7), question 9). Only an end
that has been told of already gets no other edge, so from then on a half reads on until it is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from common import transparent
from common.flow import Event
from common.loop import ERR, HUP, IN, OUT, RDHUP, Callback, Loop

COPIED: Final = 128 * 1024
PIPE: Final = 256 * 1024
_BUFFER: Final = 256 * 1024
_SPARE: Final = 64  # pipes that wait for use
TURN: Final = 1 << 20  # bytes that one connection may move before the others have their turn

# Why a half has stopped for now
WAIT_SOURCE: Final = 0
WAIT_SINK: Final = 1
GIVE_WAY: Final = 2
ENDED: Final = 3

_ENDING: Final = RDHUP | HUP | ERR
_READABLE: Final = IN | _ENDING
_WRITABLE: Final = OUT | HUP | ERR
_SPLICE: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_SO_MEMINFO: Final = 55  # asm-generic/socket.h
_MEMORY = struct.Struct("=I16xI12x")  # rmem_alloc and wmem_queued of sk_get_meminfo(), net/core/sock.c

Pipe = tuple[int, int]


class PipePool:
    """Empty pipes to lend, at most ``most`` at a time: (read end, write end)."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._made = 0
        self._spare: list[Pipe] = []

    def take(self) -> Pipe | None:
        """None if all are lent, or the process may not have another one."""
        if self._spare:
            return self._spare.pop()
        if self._made >= self.most:
            return None
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        # Past its share of pipe pages (fs.pipe-user-pages-soft) an unprivileged process gets pipes of two pages, which
        # are slower than copying.
        try:
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE)
        except OSError:
            os.close(pipe[0])
            os.close(pipe[1])
            return None
        self._made += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        if len(self._spare) < _SPARE:
            self._spare.append(pipe)
        else:
            self.discard(pipe)

    def discard(self, pipe: Pipe) -> None:
        """For a pipe that is not empty."""
        self._made -= 1
        os.close(pipe[0])
        os.close(pipe[1])


class Half:
    """One direction: ``moved`` bytes so far, ``waits`` for its source, its sink, its turn, or has ENDED."""

    __slots__ = ("_filled", "_left", "_pipe", "_pipes", "ends", "moved", "sink", "source", "waits")

    buffer = memoryview(bytearray(_BUFFER))

    def __init__(self, source: socket.socket, sink: socket.socket, pipes: PipePool) -> None:
        self.source = source
        self.sink = sink
        self.moved = 0
        self.waits = WAIT_SOURCE
        self.ends = False  # an event has told that the source ends after what there is to read
        self._left: memoryview | None = None  # copied from the source, not yet taken by the sink
        self._pipe: Pipe | None = None
        self._pipes = pipes
        self._filled = 0  # bytes in the pipe

    @property
    def kept(self) -> int:
        """Bytes that are in this process' hands: neither in the source's socket nor in the sink's."""
        return self._filled + (len(self._left) if self._left is not None else 0)

    @property
    def held(self) -> int:
        """Bytes of this direction on the box: that, what the source has received and what the sink has still to send.

        As the kernel counts, with its own overhead; what the sink has sent counts until it is acknowledged.
        """
        try:
            received = _MEMORY.unpack(self.source.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMORY.size))[0]
            unsent = _MEMORY.unpack(self.sink.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMORY.size))[1]
        except OSError:  # a leg is closed
            return self.kept
        return int(received) + self.kept + int(unsent)

    def move(self) -> int:
        """Moves what can be moved now and says why it stopped. Raises OSError when a leg is broken."""
        self.waits = waits = self._move()
        if self._pipe is not None and not self._filled:
            self._pipes.give_back(self._pipe)
            self._pipe = None
        return waits

    def _move(self) -> int:
        turn = self.moved + TURN
        try:
            if self._left is not None and not self._send(self._left):
                return WAIT_SINK
            while self.moved < turn:
                pipe = self._pipe or self._borrow_pipe()
                if pipe is None:
                    size = self.source.recv_into(self.buffer)
                    if not size:
                        return ENDED
                    if not self._send(self.buffer[:size]):
                        return WAIT_SINK
                    if size < _BUFFER and not self.ends:
                        return WAIT_SOURCE
                else:
                    reader, writer = pipe
                    if not self._filled:
                        self._filled = os.splice(self.source.fileno(), writer, PIPE, flags=_SPLICE)
                        if not self._filled:
                            return ENDED
                    size = os.splice(reader, self.sink.fileno(), self._filled, flags=_SPLICE)
                    self._filled -= size
                    self.moved += size
            return GIVE_WAY
        except BlockingIOError:
            return WAIT_SINK if self._filled else WAIT_SOURCE

    def _borrow_pipe(self) -> Pipe | None:
        """None while bytes are to be copied: at first, and when no pipe can be had."""
        if self.moved >= COPIED:
            self._pipe = self._pipes.take()
        return self._pipe

    def _send(self, data: memoryview) -> bool:
        """Sends ``data`` and keeps what the sink does not take; says whether it took all."""
        try:
            sent = self.sink.send(data)
        except BlockingIOError:
            sent = 0
        self.moved += sent
        if sent == len(data):
            self._left = None
            return True
        self._left = memoryview(bytes(data[sent:]))
        return False

    def drop(self) -> None:
        """Lets go of what is still on its way."""
        if self._pipe is not None:
            self._pipes.discard(self._pipe)
            self._pipe = None
        self._left = None
        self._filled = 0


class Relay:
    """Both halves of a connection, woken by its two sockets. ``report`` gets UP_ENDED, DOWN_ENDED or BROKEN.

    ``soon`` calls back when others have had their turn; the loop does unless somebody else is to.
    """

    __slots__ = ("_loop", "_report", "_soon", "client", "down", "server", "up")

    def __init__(
        self,
        loop: Loop,
        client: socket.socket,
        server: socket.socket,
        pipes: PipePool,
        report: Callable[[Event], None],
        soon: Callable[[Callback], None] | None = None,
    ) -> None:
        self._loop = loop
        self._soon = soon or loop.call_soon
        self._report = report
        self.client = client
        self.server = server
        self.up = Half(client, server, pipes)
        self.down = Half(server, client, pipes)

    @property
    def moved(self) -> int:
        return self.up.moved + self.down.moved

    def on_client(self, events: int) -> None:
        self._on_events(events, self.client, self.up, self.down)

    def on_server(self, events: int) -> None:
        self._on_events(events, self.server, self.down, self.up)

    def close(self) -> None:
        """Both legs have ended: lets the kernel finish them."""
        self._let_go()
        transparent.close_in_order(self.client)
        transparent.close_in_order(self.server)

    def reset(self) -> None:
        """RST on both legs (on Multipath TCP: MP_FASTCLOSE)."""
        self._let_go()
        self.client.close()
        self.server.close()

    def _on_events(self, events: int, leg: socket.socket, outgoing: Half, incoming: Half) -> None:
        if events & _ENDING:
            outgoing.ends = True
        if events & ERR and leg.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            # Not to be found by the halves while they wait for the other leg. What was said before goes before.
            with contextlib.suppress(OSError):
                outgoing.move()
            self._report(Event.BROKEN)
            return
        # An edge tells of everything that is possible now, not of what has changed: wake only who waits for it.
        if events & _READABLE and outgoing.waits == WAIT_SOURCE:
            self._run(outgoing, Event.UP_ENDED if outgoing is self.up else Event.DOWN_ENDED)
        if events & _WRITABLE and incoming.waits == WAIT_SINK:
            self._run(incoming, Event.UP_ENDED if incoming is self.up else Event.DOWN_ENDED)

    def _run(self, half: Half, end: Event) -> None:
        if self.client.fileno() < 0:
            return  # closed by what the other half reported
        try:
            waits = half.move()
        except OSError:
            self._report(Event.BROKEN)
            return
        if waits == GIVE_WAY:
            self._soon(lambda: self._run(half, end))
        elif waits == ENDED:
            self._report(end)

    def _let_go(self) -> None:
        self._loop.forget(self.client.fileno())
        self._loop.forget(self.server.fileno())
        self.up.drop()
        self.down.drop()
