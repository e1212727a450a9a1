# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket: where hybridctl asks, one JSON object a line each way.

A request is {"command": NAME} with what the command needs besides; the answer is {"ok": true, "result": ...} or
{"ok": false, "error": TEXT}.
Only the owner of the socket file, root, may connect.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from common.channel import Channel, Message
from common.loop import IN, Loop
from common.system import lack

_CLIENTS: Final = 32
_LONGEST_REQUEST: Final = 4096
_BEHIND: Final = 1 << 20  # bytes not read yet with which nobody gets another answer
_PAUSE: Final = 0.1  # seconds before accepting again when the box has run out of something

Reply = Callable[[Any], object]  # may be called again; False is that nobody listens
Command = Callable[[Message, Reply], object]


class Refused(Exception):
    """A command that is not carried out; the text says why."""


class ControlSocket:
    """Answers each command by the function that the daemon gives for it.

    That gets the request, and may reply at once or later, or raise Refused.
    """

    def __init__(self, loop: Loop, path: Path, commands: Mapping[str, Command]) -> None:
        """Raises SystemLacks if the socket cannot be made."""
        self._loop = loop
        self._path = path
        self._commands = commands
        self._clients: set[Channel] = set()
        path.unlink(missing_ok=True)  # a crashed daemon's; that none is alive, the lock has told
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        former = os.umask(0o177)
        try:
            self._socket.bind(str(path))
            self._socket.listen(_CLIENTS)
        except OSError as error:
            self._socket.close()
            raise lack(error, f"cannot make the control socket {path}") from None
        finally:
            os.umask(former)
        self._watch()

    def close(self) -> None:
        self._loop.remove(self._socket.fileno())
        self._socket.close()
        for client in list(self._clients):
            client.close()
        self._path.unlink(missing_ok=True)

    def _on_client(self, _events: int) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                self._pause()
            return
        if len(self._clients) >= _CLIENTS:
            sock.close()
            return
        client = Channel(
            self._loop,
            sock,
            lambda message: self._on_request(client, message),
            lambda: self._clients.discard(client),
            longest=_LONGEST_REQUEST,
        )
        self._clients.add(client)

    def _pause(self) -> None:
        """No descriptor or memory is left: who waits goes on waiting, and must not keep us awake."""
        self._loop.remove(self._socket.fileno())
        self._loop.call_later(_PAUSE, self._watch)

    def _watch(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add(self._socket.fileno(), IN, self._on_client)

    def _on_request(self, client: Channel, request: Message) -> None:
        name = request.get("command")
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            client.send({"ok": False, "error": f"unknown command; there are: {', '.join(sorted(self._commands))}"})
            return
        try:
            command(request, lambda result: self._answer(client, result))
        except Refused as reason:
            client.send({"ok": False, "error": str(reason)})

    def _answer(self, client: Channel, result: Any) -> bool:
        if client.waiting >= _BEHIND:
            self._clients.discard(client)
            client.close()
        client.send({"ok": True, "result": result})
        return client.open
