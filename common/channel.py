# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages between processes of one box: JSON objects, one a line, over a stream socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, Final

from common.loop import EDGE, IN, OUT, RDHUP, Loop

Message = dict[str, Any]

_LONGEST: Final = 64 * 1024 * 1024  # the table of some hundred thousand flows


class Channel:
    """One end. ``on_message`` gets each message; ``on_end`` is called once, if the other end goes or talks nonsense."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_message: Callable[[Message], None],
        on_end: Callable[[], None],
        longest: int = _LONGEST,
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._on_message = on_message
        self._on_end = on_end
        self._longest = longest
        self._incoming = bytearray()
        self._outgoing = bytearray()
        sock.setblocking(False)
        loop.add(sock.fileno(), IN | OUT | RDHUP | EDGE, self._on_events)

    @property
    def open(self) -> bool:
        return self._socket.fileno() >= 0

    @property
    def waiting(self) -> int:
        """Bytes that the other end has not taken yet."""
        return len(self._outgoing)

    def send(self, message: Message) -> None:
        """Sends now what the other end takes, the rest later; nothing if it is gone."""
        if self.open:
            self._outgoing += json.dumps(message, separators=(",", ":")).encode() + b"\n"
            self._flush()

    def close(self) -> None:
        if self.open:
            self._loop.remove(self._socket.fileno())
            self._socket.close()

    def _on_events(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & ~OUT:
            self._receive()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError:
            self._outgoing.clear()  # the end is found out by reading

    def _receive(self) -> None:
        ended = False
        try:
            while data := self._socket.recv(1 << 16):
                self._incoming += data
                if not self._deliver() or len(self._incoming) > self._longest:
                    break
            ended = True
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        if ended and self.open:
            self.close()
            self._on_end()

    def _deliver(self) -> bool:
        """Hands over what is complete; False if it was no message."""
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = bytearray(rest)
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                return False
            if not isinstance(message, dict):
                return False
            self._on_message(message)
            if not self.open:
                break
        return True
