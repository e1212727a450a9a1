# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker that hangs is neither dead nor alive: its queue has an owner, and no SYN gets an answer."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

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


SILENT, SILENT_TOO = 7001, 7002  # ports of a server that drops what comes for them
SILENCE = (
    f"table inet silent {{ chain in {{ type filter hook input priority 0; tcp dport {SILENT}-{SILENT_TOO} drop; }}; }}"
)


def knock(pair: Pair, family: int, port: int) -> socket.socket:
    """A client that waits for the server's answer."""
    with pair.lab.client.entered():
        client = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM)
    client.setblocking(False)
    client.connect_ex((pair.lab.server.address("core", family), port))
    return client


def held(pair: Pair) -> list[int]:
    """The server's ports of those that are."""
    flows: Any = pair.cpe.control("flows")
    return [flow["server_port"] for flow in flows if flow["state"] == "held"]


@pytest.mark.full
def test_what_a_slow_worker_held_decides_on_nobody_elses_syn(pair: Pair) -> None:
    """The queue that it gets back numbers packets from 1 again: those before and after have numbers in common."""
    server, slow = TcpServer(pair.lab.server, port=SILENT), worker(pair.cpe)
    with contextlib.ExitStack() as undo:
        pair.lab.server.run(["nft", "-f", "-"], text=SILENCE)
        undo.callback(pair.lab.server.run, ["nft", "delete", "table", "inet", "silent"])
        old = [knock(pair, family, server.port) for family in (4, 6)]
        until(lambda: held(pair) == [SILENT, SILENT], "their SYNs are held")
        logged = len(pair.cpe.log)
        os.kill(slow, signal.SIGSTOP)
        until(lambda: "its connections pass" in pair.cpe.log[logged:], "it is noticed")
        for client in old:
            client.close()  # no copy comes any more
        os.kill(slow, signal.SIGCONT)
        until(lambda: "answers again" in pair.cpe.log[logged:], "it is noticed")
        assert held(pair) == []
        new = [undo.enter_context(knock(pair, 4, SILENT_TOO)) for _ in range(32)]
        until(lambda: held(pair) == [SILENT_TOO] * len(new), "their SYNs are held")
        assert worker(pair.cpe) == slow
        for client in new:
            client.close()
