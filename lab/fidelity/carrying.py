# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on what an open connection carries, and how it ends."""

import socket

from lab.fidelity.bench import Bench, equal, exchange, payload, receive_all, sha256
from lab.fidelity.matrix import row


@row("8a", "half-close by the client, data after it")
def client_half_closes(bench: Bench) -> None:
    ends = bench.connect()
    exchange(ends)
    bench.bonded(ends)
    ends.client.shutdown(socket.SHUT_WR)
    equal("what the server receives", receive_all(ends.server).ending, "FIN")
    after = payload(300_000, 2)
    ends.server.sendall(after)
    ends.server.shutdown(socket.SHUT_WR)
    got = receive_all(ends.client)
    equal("what the client receives", (got.size, got.sha256, got.ending), (len(after), sha256(after), "FIN"))
