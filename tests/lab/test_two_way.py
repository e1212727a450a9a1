# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection that is full in both directions at once."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.access import Profile
from lab.bonded import Pair
from lab.connect import connect
from lab.servers import TcpServer

pytestmark = pytest.mark.root

# Two accesses whose packets meet out of order by up to a queue's length.
ACCESS = Profile(rate_down=20e6, rate_up=10e6, delay=0.050)
CONTENT = random.Random(30).randbytes(1_000_000)
TRIES = 4


@pytest.mark.parametrize("family", [pytest.param(4, marks=pytest.mark.full), 6])
def test_what_goes_up_comes_down(family: int) -> None:
    """With receive buffers of the kernel's choice, 1 of 8 such transfers never ended (common/transparent.py)."""
    with Pair(xdsl=ACCESS, lte=ACCESS) as pair, ThreadPoolExecutor(1) as sender:
        server = TcpServer(pair.lab.server)
        for _ in range(TRIES):
            connection, _milliseconds = connect(pair.lab, family, server.port)
            with connection:
                sending = sender.submit(connection.sendall, CONTENT)
                received = bytearray()
                while len(received) < len(CONTENT):
                    block = connection.recv(1 << 16)
                    assert block, f"ended after {len(received)} bytes"
                    received += block
                sending.result()
                assert received == CONTENT
        assert pair.bonded() == TRIES
