# SPDX-License-Identifier: GPL-2.0-or-later
"""Where records go, and that each is one there; in a process of its own, since a process has one log."""

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.log import SINKS

PROGRAM = """\
import sys
from common import log as logging
from common.log import about, log
logging._JOURNAL, logging._SYSLOG = sys.argv[1:3]
logging.start("hybrid-cpe", "info", sys.argv[3])
"""
HOSTILE = "log.warning('link %s is down', 'a\\nb\\x1b[2J', extra=about(link='lte\\nx', flow=5))"

Logged = Callable[..., str]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "receiver"))
        receiver.settimeout(5.0)
        yield receiver


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    """Runs statements with the log going to a sink; gives what comes on standard error."""

    def run(statements: str, sink: str, **environment: str) -> str:
        receiver = str(tmp_path / "receiver")
        command = [sys.executable, "-c", PROGRAM + statements, receiver, receiver, sink]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
        return done.stderr

    return run


def fields(datagram: bytes) -> dict[str, str]:
    """The reverse of the journal's protocol."""
    found = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", datagram[:8])
            value, datagram = datagram[8 : 8 + length], datagram[9 + length :]
        found[name.decode()] = value.decode()
    return found


def test_standard_error_has_a_line_each(logged: Logged) -> None:
    text = logged(HOSTILE, "stderr")
    assert text.partition("] ")[2] == "WARNING: link a\\nb\\x1b[2J is down\n"


def test_the_journal_has_fields(logged: Logged, receiver: socket.socket) -> None:
    assert logged(HOSTILE, "journal") == ""
    found = fields(receiver.recv(1 << 16))
    assert found.pop("CODE_FILE") == "<string>"
    assert found == {
        "MESSAGE": "link a\\nb\\x1b[2J is down",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "hybrid-cpe",
        "CODE_LINE": "6",
        "CODE_FUNC": "<module>",
        "HYBRID_LINK": "lte\\nx",
        "HYBRID_FLOW": "5",
    }


def test_the_journal_has_tracebacks(logged: Logged, receiver: socket.socket) -> None:
    logged("try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('a fault')", "journal")
    found = fields(receiver.recv(1 << 16))
    assert found["MESSAGE"] == "a fault: ZeroDivisionError('division by zero')"
    assert found["EXCEPTION_TEXT"].startswith("Traceback (most recent call last):\n")


def test_syslog_has_a_line_each(logged: Logged, receiver: socket.socket) -> None:
    assert logged(HOSTILE, "syslog") == ""
    head, _, text = receiver.recv(1 << 16).decode().partition(": ")
    assert head.startswith("<28>hybrid-cpe[")
    assert text == "link a\\nb\\x1b[2J is down"


@pytest.mark.parametrize("sink", SINKS)
def test_what_nobody_takes_goes_to_standard_error(logged: Logged, sink: str) -> None:
    assert logged(HOSTILE, sink).endswith("WARNING: link a\\nb\\x1b[2J is down\n")


def test_a_receiver_that_is_stuck_is_not_waited_for(logged: Logged, receiver: socket.socket) -> None:
    lines = logged("for number in range(2000): log.warning(f'record {number}')", "journal").splitlines()
    assert 0 < len(lines) < 2000
    assert lines[-1].endswith("record 1999")


def test_auto_is_the_journal_where_it_has_standard_error(tmp_path: Path, receiver: socket.socket) -> None:
    file = tmp_path / "stderr"
    command = [sys.executable, "-c", PROGRAM + "log.info('hello')", str(tmp_path / "receiver"), "/nowhere", "auto"]
    with file.open("w") as stderr:
        mine = os.fstat(stderr.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{mine.st_dev}:{mine.st_ino}"}
        subprocess.run(command, stderr=stderr, check=True, env=environment)
        assert fields(receiver.recv(1 << 16))["MESSAGE"] == "hello"
        subprocess.run(command, stderr=stderr, check=True, env={**environment, "JOURNAL_STREAM": "1:2"})
    assert file.read_text().endswith("INFO: hello\n")


def test_auto_is_syslog_where_nobody_reads_standard_error(tmp_path: Path, receiver: socket.socket) -> None:
    command = [sys.executable, "-c", PROGRAM + "log.info('hello')", "/nowhere", str(tmp_path / "receiver"), "auto"]
    for redirection in ("2>/dev/null", "2>&-"):
        subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", *command], check=True)
        assert receiver.recv(1 << 16).endswith(b": hello")


def test_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM + "log.info('hello')", "/nowhere", "/nowhere", "stderr"]
    subprocess.run(["sh", "-c", 'exec "$@" 2>/dev/full', "sh", *command], check=True)


def test_too_many_of_a_kind(logged: Logged) -> None:
    lines = logged("for number in range(500): log.warning('link %d is down', number)", "stderr").splitlines()
    assert len(lines) == 30
    of_links = (
        "for number in range(500): log.warning('%s is down', 'it', extra=about(link='lte' if number else 'xdsl'))"
    )
    assert len(logged(of_links, "stderr").splitlines()) == 31  # one that flaps does not silence the other
    assert (
        logged("logging.set_level('debug')\nfor number in range(500): log.debug('link %d', number)", "stderr").count(
            "\n"
        )
        == 500
    )
