# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on the bytes between beginning and end: how many, how few, both ways at once."""

import socket

from lab.fidelity.bench import Bench, exchange, expect, payload, receive
from lab.fidelity.matrix import row


@row("9f", "urgent data arrives, in line")
def urgent(bench: Bench) -> None:
    """Before the relay splices and after; a TCP that takes it out of line would lose a byte or stop there."""
    ends = bench.connect()
    exchange(ends)
    bench.bonded(ends)
    for seed, before in enumerate((500, 200_000, 10_000)):
        for source, sink in ((ends.client, ends.server), (ends.server, ends.client)):
            data = payload(before + 2001, seed)
            source.sendall(data[:before])
            source.send(data[before : before + 1001], socket.MSG_OOB)
            source.sendall(data[before + 1001 :])
            expect(receive(sink, len(data)) == data, "bytes arrive changed")
