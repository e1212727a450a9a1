# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemons that are asked once and go on answering: what comes from all of them, as it comes."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from ctl.inquiry import PATIENCE, Unreachable, result, why

_READ: Final = 1 << 16


def follow(roles: Sequence[str], run_dir: Path, command: str) -> Iterator[tuple[str, Any]]:
    """Each result with the role of its daemon, until a daemon ends. Raises Unreachable, with the name of that one."""
    with ExitStack() as undo:
        role_of: dict[socket.socket, str] = {}
        for role in roles:
            connection = undo.enter_context(socket.socket(socket.AF_UNIX))
            _ask(connection, role, run_dir / f"{role}.sock", command)
            role_of[connection] = role
        unread = dict.fromkeys(role_of, b"")
        while True:
            for connection in select.select(list(role_of), [], [])[0]:
                role = role_of[connection]
                try:
                    data = connection.recv(_READ)
                except OSError:
                    data = b""
                if not data:
                    raise Unreachable(f"hybrid-{role} has hung up")
                *lines, unread[connection] = (unread[connection] + data).split(b"\n")
                for line in lines:
                    yield role, result(role, command, line + b"\n")


def _ask(connection: socket.socket, role: str, path: Path, command: str) -> None:
    try:
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        connection.sendall(json.dumps({"command": command, "follow": True}).encode() + b"\n")
    except OSError as error:
        raise why(error, role, path, PATIENCE) from None
