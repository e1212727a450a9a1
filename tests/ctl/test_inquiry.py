# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions to a daemon, and each way to get no answer."""

import errno
import os
from pathlib import Path

import pytest

from ctl.inquiry import Absent, Unreachable, ask, why
from tests.ctl.fake_daemon import abandoned_socket, fake_daemon

PATH = Path("/run/hybrid-access/cpe.sock")
NOT_UNDERSTOOD = "hybrid-cpe answers what this hybridctl does not understand: are they of one version?"
HUNG_UP = "hybrid-cpe hung up before its answer was complete"


def test_the_result_comes_unchanged(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "hag", b'{"ok": true, "result": [{"client": "\\u001b"}]}\n') as daemon:
        assert ask("hag", tmp_path, "flows") == [{"client": "\x1b"}]
    assert daemon.request == b'{"command": "flows"}\n'


def test_a_long_result(tmp_path: Path) -> None:
    numbers = list(range(200_000))
    with fake_daemon(tmp_path, "cpe", b'{"ok": true, "result": %a}\n' % numbers):
        assert ask("cpe", tmp_path, "flows") == numbers


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b'{"ok": false, "error": "unknown command"}\n', "hybrid-cpe does not answer 'flows': unknown command"),
        (b"", HUNG_UP),
        (b'{"ok": true, "result": []}', HUNG_UP),
        (b"hello\n", NOT_UNDERSTOOD),
        (b"\xff\n", NOT_UNDERSTOOD),
        (b"[" * 100_000 + b"\n", NOT_UNDERSTOOD),
        (b"[]\n", NOT_UNDERSTOOD),
        (b'{"ok": true}\n', NOT_UNDERSTOOD),
        (b'{"ok": true, "result": null}\n', NOT_UNDERSTOOD),
        (b'{"ok": 1, "result": {}}\n', NOT_UNDERSTOOD),
        (b'{"ok": false}\n', NOT_UNDERSTOOD),
    ],
)
def test_no_good_answer(tmp_path: Path, answer: bytes, reason: str) -> None:
    with fake_daemon(tmp_path, "cpe", answer), pytest.raises(Unreachable) as caught:
        ask("cpe", tmp_path, "flows")
    assert str(caught.value) == reason


def test_no_socket(tmp_path: Path) -> None:
    with pytest.raises(Absent) as caught:
        ask("cpe", tmp_path, "flows")
    assert str(caught.value) == f"hybrid-cpe is not running (no {tmp_path}/cpe.sock)"


def test_last_words(tmp_path: Path) -> None:
    (tmp_path / "cpe.failure").write_text("file:3: wrong")
    with pytest.raises(Absent) as caught:
        ask("cpe", tmp_path, "flows")
    assert str(caught.value) == f"hybrid-cpe is not running (no {tmp_path}/cpe.sock); its last words: file:3: wrong"


def test_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for missing in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(Absent):
            ask("cpe", missing, "flows")


def test_a_socket_without_daemon(tmp_path: Path) -> None:
    abandoned_socket(tmp_path, "cpe")
    with pytest.raises(Unreachable) as caught:
        ask("cpe", tmp_path, "flows")
    assert str(caught.value) == f"hybrid-cpe is not running (nobody listens at {tmp_path}/cpe.sock)"
    assert not isinstance(caught.value, Absent)


def test_a_silent_daemon(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", None), pytest.raises(Unreachable) as caught:
        ask("cpe", tmp_path, "flows", patience=0.05)
    assert str(caught.value) == f"hybrid-cpe does not answer (waited 0.05 seconds at {tmp_path}/cpe.sock)"


def test_a_path_that_no_socket_can_have() -> None:
    with pytest.raises(Unreachable, match=r"^hybrid-cpe cannot be asked at /x+/cpe\.sock: AF_UNIX path too long$"):
        ask("cpe", Path("/" + "x" * 120), "flows")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EACCES, "you may not ask hybrid-cpe (permission denied at /run/hybrid-access/cpe.sock): try as root"),
        (errno.EAGAIN, "hybrid-cpe does not answer (others wait already at /run/hybrid-access/cpe.sock)"),
        (errno.EPIPE, HUNG_UP),
        (errno.ECONNRESET, HUNG_UP),
        (errno.ENOBUFS, "hybrid-cpe cannot be asked at /run/hybrid-access/cpe.sock: No buffer space available"),
    ],
)
def test_why(number: int, reason: str) -> None:
    assert str(why(OSError(number, os.strerror(number)), "cpe", PATH, 5.0)) == reason
