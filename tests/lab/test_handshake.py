# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening a connection when the network or the server does not help."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.bonded import Pair
from lab.connect import answers, connect
from lab.servers import TcpServer

pytestmark = pytest.mark.root

FAMILIES = pytest.mark.parametrize("family", [4, 6])


@contextmanager
def deaf(pair: Pair, family: int, port: int, seconds: float) -> Iterator[None]:
    """For so long the server's host loses whatever comes for the port."""
    program = "iptables" if family == 4 else "ip6tables"
    rule = ["INPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP"]
    pair.lab.server.run([program, "-I", *rule])
    timer = threading.Timer(seconds, lambda: pair.lab.server.run([program, "-D", *rule]))
    timer.start()
    try:
        yield
    finally:
        timer.join()


@FAMILIES
def test_server_that_answers_the_fourth_syn(family: int) -> None:
    """By then the CPE's kernel sends its SYN without MP_CAPABLE: that copy must not reach the server past the HAG."""
    with Pair() as pair:
        server = TcpServer(pair.lab.server)
        times = {}
        for device in ("guest", "lan"):  # forwarded, through the pair
            with deaf(pair, family, server.port, 3.6):
                connection, times[device] = connect(pair.lab, family, server.port, device)
                with connection:
                    answers(connection)
        assert times["lan"] == pytest.approx(times["guest"], abs=500)  # a SYN more or less would be 1000
        assert pair.hag.status()["counters"] == {"opened: plain TCP": 1}
