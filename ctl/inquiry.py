# SPDX-License-Identifier: GPL-2.0-or-later
"""A question to a daemon: the other end of common/control.py, and in words why there is no answer."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

PATIENCE: Final = 5.0
"""Seconds of silence; a daemon itself waits 3 for its workers."""
PATIENCE_TO_RELOAD: Final = 30.0
"""The same of a reload, for which a daemon waits for other programs."""

_READ: Final = 1 << 16


class Unreachable(Exception):
    """A daemon cannot be asked, or does not answer as it should; the text is for people."""


class Absent(Unreachable):
    """There is no control socket: the daemon does not run. ``last_words`` say why, if it has failed."""

    def __init__(self, text: str, last_words: str = "") -> None:
        super().__init__(f"{text}; its last words: {last_words}" if last_words else text)
        self.last_words = last_words


def ask(role: str, run_dir: Path, command: str, patience: float = PATIENCE, **arguments: str) -> Any:
    """The result of a command, as the daemon of that role ('cpe' or 'hag') gives it. Raises Unreachable."""
    path = run_dir / f"{role}.sock"
    try:
        line = _exchange(path, {"command": command, **arguments}, patience)
    except OSError as error:
        raise why(error, role, path, patience) from None
    return result(role, command, line)


def why(error: OSError, role: str, path: Path, patience: float) -> Unreachable:
    """What an error of the socket means."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return Absent(f"hybrid-{role} is not running (no {path})", _last_words(path))
        case ConnectionRefusedError():
            return Unreachable(f"hybrid-{role} is not running (nobody listens at {path})")
        case PermissionError():
            return Unreachable(f"you may not ask hybrid-{role} (permission denied at {path}): try as root")
        case TimeoutError():
            return Unreachable(f"hybrid-{role} does not answer (waited {patience:g} seconds at {path})")
        case BlockingIOError():  # its backlog is full: unix(7) does not wait then
            return Unreachable(f"hybrid-{role} does not answer (others wait already at {path})")
        case BrokenPipeError() | ConnectionResetError():
            return _hung_up(role)
    return Unreachable(f"hybrid-{role} cannot be asked at {path}: {error.strerror or error}")


def _last_words(path: Path) -> str:
    """In the file beside the socket."""
    try:
        return path.with_suffix(".failure").read_text()
    except (OSError, ValueError):
        return ""


def result(role: str, command: str, line: bytes) -> Any:
    """What the line that came back holds. Raises Unreachable if that is a refusal, or no answer at all."""
    if not line.endswith(b"\n"):
        raise _hung_up(role)
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    match answer:
        case {"ok": True, "result": dict() | list() as value}:
            return value
        case {"ok": False, "error": str(reason)}:
            raise Unreachable(f"hybrid-{role} does not answer '{command}': {reason}")
    raise not_understood(role)


def not_understood(role: str) -> Unreachable:
    return Unreachable(f"hybrid-{role} answers what this hybridctl does not understand: are they of one version?")


def _hung_up(role: str) -> Unreachable:
    return Unreachable(f"hybrid-{role} hung up before its answer was complete")


def _exchange(path: Path, request: dict[str, str], patience: float) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(patience)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb", buffering=_READ) as answers:
            return answers.readline()
