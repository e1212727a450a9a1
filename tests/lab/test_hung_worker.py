# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker that hangs is neither dead nor alive: its queue has an owner, and no SYN gets an answer."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from lab.access import Kind
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.daemons import Daemon
from lab.servers import TcpServer
from tests.running import until

pytestmark = pytest.mark.root

REPLACED_WITHIN = 10.0  # seconds


@pytest.fixture(scope="module")
def pair(lab_obstacle: str) -> Iterator[Pair]:
    if lab_obstacle:
        pytest.skip(lab_obstacle)
    with Pair(Kind.DIRECT) as pair:
        yield pair


def worker(daemon: Daemon) -> int:
    pid: int = daemon.status()["workers"][0]["pid"]
    return pid


def passes(pair: Pair, server: TcpServer) -> None:
    """A connection over each family gets through at once, unbonded."""
    before = pair.bonded(pair.hag)
    for family in (4, 6):
        connection, milliseconds = connect(pair.lab, family, server.port)
        with connection:
            answers(connection)
        assert milliseconds < 500
    assert pair.bonded(pair.hag) == before


def test_connections_pass_a_hung_worker_until_it_is_replaced(pair: Pair) -> None:
    server, hung = TcpServer(pair.lab.server), worker(pair.cpe)
    start = time.monotonic()
    os.kill(hung, signal.SIGSTOP)
    until(lambda: "does not answer: its connections pass" in pair.cpe.log, "it is noticed")
    passes(pair, server)
    until(lambda: "has died" in pair.cpe.log, "it is killed")
    assert time.monotonic() - start < REPLACED_WITHIN
    assert f"worker 0 (process {hung}) has died: killed by SIGABRT" in pair.cpe.log
    assert 'File "' in pair.cpe.log  # where it hung
    before = pair.bonded()
    connect(pair.lab, 4, server.port)[0].close()
    assert worker(pair.cpe) != hung
    assert pair.bonded() == before + 1


@pytest.mark.full
def test_a_worker_that_was_only_slow_goes_on(pair: Pair) -> None:
    server, slow = TcpServer(pair.lab.server), worker(pair.cpe)
    with connect(pair.lab, 6, server.port)[0] as old:
        answers(old)
        logged = len(pair.cpe.log)
        os.kill(slow, signal.SIGSTOP)
        until(lambda: "its connections pass" in pair.cpe.log[logged:], "it is noticed")
        passes(pair, server)
        os.kill(slow, signal.SIGCONT)
        until(lambda: "answers again" in pair.cpe.log[logged:], "it is noticed")
        answers(old)
        before = pair.bonded()
        connect(pair.lab, 6, server.port)[0].close()
        assert pair.bonded() == before + 1
        assert worker(pair.cpe) == slow
