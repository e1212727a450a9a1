# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for what may come by itself, in a process of its own: its file, its signals, its service manager, reloads."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from common.daemon import Exit
from ctl.inquiry import Unreachable, ask
from tests.running import until

RIGHT = """\
config cpe 'cpe'
	list lan 'br-lan'

config link 'xdsl'
	option device 'pppoe-wan'
	option role 'primary'

config link 'lte'
	option device 'wwan0'
	option role 'secondary'
"""
HALF = RIGHT[: RIGHT.index("'secondary'") + 5]
MISSING = "there is no device 'late'"

# Tries to start are numbered; what becomes of one is the test's.
PROGRAM = """\
import itertools, os, signal, socket, sys
from common import daemon
from common.daemon import Failed, stop_on_signals
from common.loop import Loop
from common.system import Unavailable

def missing():
    raise Unavailable("{missing}")

def told():
    os.kill(os.getpid(), signal.SIGTERM)

def serve():
    loop = Loop()
    stop_on_signals(loop)
    loop.call_later(2.0, lambda: loop.stop("told nothing"))
    loop.run()
    loop.close()
    if loop.failure:
        raise Failed(loop.failure)

def run(config, invocation):
    number = next(numbers)
    print(number, flush=True)
    invocation.supervisor.status(f"try {{number}}")
    attempt(number)

numbers = itertools.count(1)
daemon._claim_namespace = socket.socket  # there may be several at a time
daemon._AGAIN = {again}
{attempt}
arguments = ["--wait", "--config", sys.argv[1], "--run-dir", sys.argv[2]]
sys.exit(daemon.main("cpe", "", lambda config: config.cpe, run, lambda *_: None, arguments))
"""

Daemon = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    """Starts one that makes ``attempt(number)`` of what is defined there, ``again`` seconds after the last one."""
    (tmp_path / "file").write_text(RIGHT)

    def start(attempt: str, again: float = 0.01, **environment: str) -> "subprocess.Popen[str]":
        program = PROGRAM.format(missing=MISSING, attempt=attempt, again=again)
        command = [sys.executable, "-c", program, str(tmp_path / "file"), str(tmp_path)]
        environment = {**os.environ, **environment}
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )

    return start


def ended(process: "subprocess.Popen[str]") -> tuple[int, list[int], list[str]]:
    """Its exit status, the tries that it made, and the warnings and errors that it logged."""
    try:
        out, err = process.communicate(timeout=10.0)
    finally:
        process.kill()
    told = [line.partition("] ")[2] for line in err.splitlines() if " INFO: " not in line]
    return process.returncode, [int(line) for line in out.split()], told


def test_a_file_that_is_half_written_when_it_waits(daemon: Daemon, tmp_path: Path) -> None:
    texts = f"""\
texts = iter([{RIGHT!r}, {HALF!r}, {HALF!r}, {RIGHT!r}, {RIGHT!r}])
daemon.config.read = lambda _path: next(texts)
attempt = lambda number: number == 3 or missing()
"""
    status, tries, told = ended(daemon(texts))
    assert (status, tries) == (Exit.OK, [1, 2, 3])
    waits = [f"WARNING: waiting, connections pass unbonded: {reason}" for reason in (MISSING, tmp_path / "file")]
    first, half, again = told
    assert (first, again) == (waits[0], waits[0])
    assert half.startswith(f"{waits[1]}:10: ")


def test_a_file_that_is_wrong_from_the_beginning(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(HALF)
    status, tries, _ = ended(daemon("attempt = print"))
    assert (status, tries) == (Exit.CONFIG, [])


@pytest.mark.parametrize(
    "second",
    [
        pytest.param("told(), missing()", id="and it must go on to wait"),
        pytest.param(
            "stop_on_signals(loop := Loop()), told(), loop.close(), missing()", id="the same, with a loop that hears it"
        ),
        pytest.param("told(), serve()", id="and it could begin to serve"),
    ],
)
def test_told_to_end_between_two_waits(daemon: Daemon, second: str) -> None:
    status, tries, _ = ended(daemon(f"attempt = lambda number: ({second}) if number == 2 else missing()"))
    assert (status, tries) == (Exit.OK, [1, 2])


def test_a_later_start_may_take_as_long_as_the_first(daemon: Daemon, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0)
        watched = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "5000000"}
        assert ended(daemon("attempt = lambda number: number == 2 or missing()", **watched))[0] == Exit.OK
        heard = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(manager.recv(4096).decode().split("\n"))
        assert [said for said in heard if said != ["WATCHDOG=1"]] == [
            ["STATUS=try 1"],
            ["READY=1", f"STATUS=waiting, connections pass unbonded: {MISSING}", "WATCHDOG=1", "WATCHDOG_USEC=5000000"],
            ["WATCHDOG=1", "WATCHDOG_USEC=60000000"],
            ["STATUS=try 2"],
        ]


def test_a_reload_has_it_try_again_at_once(daemon: Daemon, tmp_path: Path) -> None:
    process = daemon("attempt = lambda number: number == 2 or missing()", again=60.0)
    try:
        wait_until_it_says(tmp_path, MISSING)
        (tmp_path / "file").write_text(HALF)
        answer = ask("cpe", tmp_path, "reload")
        assert (answer["changed"], answer["waiting"]) == ([], MISSING)
        (wrong,) = answer["errors"]
        assert wrong.startswith(f"{tmp_path / 'file'}:10: ")
        wait_until_it_says(tmp_path, wrong)
        (tmp_path / "file").write_text(RIGHT)
        assert ask("cpe", tmp_path, "reload") == {"changed": [], "errors": [], "waiting": wrong}
        assert ended(process)[:2] == (Exit.OK, [1, 2])
    finally:
        process.kill()


def wait_until_it_says(run_dir: Path, reason: str) -> None:
    def says() -> bool:
        with pytest.raises(Unreachable) as caught:
            ask("cpe", run_dir, "status")
        return str(caught.value).endswith(f"it is waiting: {reason}")

    until(says, f"it waits: {reason}")
