# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on connections that wait, for more to come or for somebody to read: the boxes have nothing to do meanwhile."""

import socket
import time

from lab.fidelity.bench import Bench, Ends, busy, equal, exchange, expect, payload, receive_all
from lab.fidelity.matrix import row

WATCHED = 0.5  # seconds
IDLE = 0.05  # of a processor: what both daemons do beside, an answer to us for instance


@row("8y", "connections that wait, open, half-closed or full, take no processor time")
def waiting(bench: Bench) -> None:
    idle, half_up, half_down, full = (bench.connect() for _ in range(4))
    for ends in (idle, half_up, half_down, full):
        exchange(ends)
        bench.bonded(ends)
    half_up.client.shutdown(socket.SHUT_WR)
    equal("what the server receives", receive_all(half_up.server).ending, "FIN")
    half_down.server.shutdown(socket.SHUT_WR)
    equal("what the client receives", receive_all(half_down.client).ending, "FIN")
    fill(full)
    for daemon in (bench.cpe, bench.hag):
        share = busy(daemon, WATCHED)
        expect(share < IDLE, f"{daemon.name} takes {share:.0%} of a processor for four connections that wait")


def fill(ends: Ends) -> None:
    """The server sends to a client that does not read, until nothing more has been taken for a while."""
    data, taken = payload(1 << 16, 1), time.monotonic()
    ends.server.setblocking(False)
    while time.monotonic() - taken < WATCHED:
        try:
            ends.server.send(data)
            taken = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
