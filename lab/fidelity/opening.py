# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on how connections begin, or do not."""

import errno
import os
import socket
import time

from lab.fidelity.bench import Bench, Via, equal, expect
from lab.fidelity.matrix import row

CLOSED = 9  # a port where nobody listens
SLACK = 0.050  # seconds that a refusal may come later than without the pair

UNREACHABLE = (socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: the client hears of ICMP errors at once
UNREACHABLE6 = (socket.IPPROTO_IPV6, 25, 1)


def refused(bench: Bench, via: Via, port: int = CLOSED, address: str = "") -> tuple[str, float]:
    """How a connect() fails, and after how many seconds."""
    client = bench.client(via, UNREACHABLE6 if bench.family == 6 else UNREACHABLE)
    began = time.monotonic()
    error = client.connect_ex((address or bench.server_address, port))
    return errno.errorcode.get(error, os.strerror(error)), time.monotonic() - began


def same_refusal(bench: Bench, wanted: str, port: int = CLOSED, address: str = "") -> None:
    """The client sees the same error by way of the pair as without it, as quickly."""
    plain, plain_time = refused(bench, "guest", port, address)
    bonded, bonded_time = refused(bench, "lan", port, address)
    equal("the error without the pair", plain, wanted)
    equal("the error", bonded, wanted)
    expect(bonded_time - plain_time <= SLACK, f"{bonded_time * 1000:.0f} ms instead of {plain_time * 1000:.0f}")


@row("1a", "the server refuses with RST")
def server_refuses(bench: Bench) -> None:
    with bench.counts(bench.cpe, "refused: reset"), bench.counts(bench.hag, "refused: reset"):
        same_refusal(bench, "ECONNREFUSED")
