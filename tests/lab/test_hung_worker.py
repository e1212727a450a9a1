# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker that hangs is neither dead nor alive: its queue has an owner, and no SYN gets an answer."""

import os
import signal
import time

import pytest

from lab.access import Kind
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.servers import TcpServer

pytestmark = pytest.mark.root

PATIENCE = 10.0  # seconds


def test_hung_worker_is_replaced() -> None:
    with Pair(Kind.DIRECT) as pair:
        server = TcpServer(pair.lab.server)
        hung = pair.cpe.status()["workers"][0]["pid"]
        os.kill(hung, signal.SIGSTOP)
        deadline = time.monotonic() + PATIENCE
        while "does not answer" not in pair.cpe.log:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with connect(pair.lab, 4, server.port)[0] as connection:
            answers(connection)
        assert pair.cpe.status()["workers"][0]["pid"] != hung
