# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket as a client sees it."""

import contextlib
import json
import os
import resource
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.channel import Message
from common.control import _CLIENTS, _PAUSE, ControlSocket, Refused, Reply
from common.system import SystemLacks
from tests.running import PATIENCE, RunningLoop, until


class Daemon:
    """A control socket with a command that answers at once and one that answers when told to."""

    def __init__(self, running: RunningLoop, path: Path) -> None:
        self.running = running
        self.path = path
        self.waiting: list[Reply] = []
        commands = {
            "status": lambda _, reply: reply({"flows": 3}),
            "slow": lambda _, reply: self.waiting.append(reply),
            "refuse": self.refuse,
        }
        self.control = running.call(lambda: ControlSocket(running.loop, path, commands))

    def refuse(self, request: Message, _: Reply) -> None:
        raise Refused(f"not {request['what']}")

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(str(self.path))
        return client

    def ask(self, text: str) -> Any:
        with self.connect() as client:
            client.sendall(text.encode() + b"\n")
            return answer(client)


def answer(client: socket.socket) -> Any:
    with client.makefile("rb") as stream:
        return json.loads(stream.readline())


def is_ended(client: socket.socket) -> bool:
    """The end, or a reset where noise was still unread; an answer is neither."""
    try:
        return client.recv(4096) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def daemon(running: RunningLoop, tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(running, tmp_path / "cpe.sock")
    yield daemon
    running.call(daemon.control.close)


def test_a_command_is_answered(daemon: Daemon) -> None:
    assert daemon.ask('{"command": "status"}') == {"ok": True, "result": {"flows": 3}}


def test_a_command_that_is_refused(daemon: Daemon) -> None:
    assert daemon.ask('{"command": "refuse", "what": "today"}') == {"ok": False, "error": "not today"}


def test_one_client_asks_several_times(daemon: Daemon) -> None:
    with daemon.connect() as client:
        for _ in range(3):
            client.sendall(b'{"command": "status"}\n')
            assert answer(client)["ok"] is True


@pytest.mark.parametrize("request_", ['{"command": "reboot"}', "{}", '{"command": 1}', '{"command": ["status"]}'])
def test_an_unknown_command_is_told_which_there_are(daemon: Daemon, request_: str) -> None:
    assert daemon.ask(request_) == {"ok": False, "error": "unknown command; there are: refuse, slow, status"}


def test_a_late_answer_goes_to_who_asked(daemon: Daemon) -> None:
    with daemon.connect() as one, daemon.connect() as other:
        one.sendall(b'{"command": "slow"}\n')
        (reply,) = until(lambda: list(daemon.waiting))
        other.sendall(b'{"command": "status"}\n')
        assert answer(other)["result"] == {"flows": 3}
        daemon.running.call(lambda: reply("late"))
        assert answer(one) == {"ok": True, "result": "late"}


def test_who_asked_may_be_gone_when_the_answer_comes(daemon: Daemon) -> None:
    with daemon.connect() as client:
        client.sendall(b'{"command": "slow"}\n')
        (reply,) = until(lambda: list(daemon.waiting))
    until(lambda: daemon.running.call(lambda: not daemon.control._clients))
    daemon.running.call(lambda: reply("late"))
    assert daemon.ask('{"command": "status"}')["ok"] is True


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"x" * 10_000])
def test_noise_is_answered_with_the_end(daemon: Daemon, noise: bytes) -> None:
    with daemon.connect() as client:
        client.sendall(noise)
        assert is_ended(client)
    assert daemon.ask('{"command": "status"}')["ok"] is True


def test_only_so_many_clients(daemon: Daemon) -> None:
    clients = [daemon.connect() for _ in range(_CLIENTS)]
    until(lambda: daemon.running.call(lambda: len(daemon.control._clients)) == _CLIENTS)
    with daemon.connect() as one_too_many:
        assert one_too_many.recv(1) == b""
    clients.pop().close()
    until(lambda: daemon.running.call(lambda: len(daemon.control._clients)) < _CLIENTS)
    assert daemon.ask('{"command": "status"}')["ok"] is True
    for client in clients:
        client.close()


def test_who_cannot_be_accepted_waits_and_keeps_nobody_busy(
    running: RunningLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    on_client = ControlSocket._on_client

    def count(control: ControlSocket, events: int) -> None:
        tries.append(events)
        on_client(control, events)

    monkeypatch.setattr(ControlSocket, "_on_client", count)
    daemon = Daemon(running, tmp_path / "cpe.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        with no_descriptors_left():
            client.connect(str(daemon.path))
            client.sendall(b'{"command": "status"}\n')
            time.sleep(3 * _PAUSE)
        assert 1 <= len(tries) <= 4
        assert answer(client)["ok"] is True
    running.call(daemon.control.close)


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_for_the_owner_only(daemon: Daemon) -> None:
    assert stat.S_IMODE(daemon.path.stat().st_mode) == 0o600


def test_the_umask_stays(running: RunningLoop, tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        running.call(Daemon(running, tmp_path / "s").control.close)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(former)


def test_a_crashed_daemons_socket_is_in_nobodys_way(running: RunningLoop, tmp_path: Path) -> None:
    path = tmp_path / "cpe.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    daemon = Daemon(running, path)
    assert daemon.ask('{"command": "status"}')["ok"] is True
    running.call(daemon.control.close)


def test_close_takes_the_socket_away_and_ends_its_clients(daemon: Daemon) -> None:
    with daemon.connect() as client:
        client.sendall(b'{"command": "status"}\n')
        assert answer(client)["ok"] is True
        daemon.running.call(daemon.control.close)
        assert client.recv(1) == b""
    assert not daemon.path.exists()
    daemon.control = daemon.running.call(lambda: ControlSocket(daemon.running.loop, daemon.path, {}))


@pytest.mark.parametrize("name", ["missing/cpe.sock", "x" * 150], ids=["no such folder", "too long for a socket"])
def test_a_socket_that_cannot_be_made_is_an_error_with_its_cause(
    running: RunningLoop, tmp_path: Path, name: str
) -> None:
    with pytest.raises(SystemLacks) as caught:
        Daemon(running, tmp_path / name)
    assert str(caught.value).startswith(f"cannot make the control socket {tmp_path / name}: ")
    assert not str(caught.value).endswith("None")


def test_who_does_not_read_what_keeps_coming_is_hung_up_on(running: RunningLoop, tmp_path: Path) -> None:
    daemon = Daemon(running, tmp_path / "cpe.sock")
    with daemon.connect() as client:
        client.sendall(b'{"command": "slow"}\n')
        (reply,) = until(lambda: list(daemon.waiting))
        until(lambda: daemon.running.call(lambda: not reply("x" * 100_000)), "it says that nobody listens")
        size = 0
        while data := client.recv(1 << 20):
            size += len(data)
    assert size < 4_000_000
    running.call(daemon.control.close)
