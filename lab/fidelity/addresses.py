# SPDX-License-Identifier: GPL-2.0-or-later
"""A row on whom the ends of a connection believe they are talking to."""

from lab.fidelity.bench import Bench, Via, equal, exchange
from lab.fidelity.matrix import row


@row("1x", "both ends see each other's address and port as without the pair")
def addresses(bench: Bench) -> None:
    both_ends(bench, "guest")
    both_ends(bench, "lan")


def both_ends(bench: Bench, via: Via) -> None:
    listener = bench.listen()
    ends = bench.connect(via, listener)
    exchange(ends)
    server = listener.getsockname()[:2]
    equal(f"by way of {via}, the server as the client sees it", ends.client.getpeername()[:2], server)
    equal(f"by way of {via}, the server as it sees itself", ends.server.getsockname()[:2], server)
    client = ends.server.getpeername()[:2]
    if bench.family == 6:
        equal(f"by way of {via}, the client as the server sees it", client, ends.client.getsockname()[:2])
    else:  # the router's NAT chooses the port
        router = bench.lab.cpe.address("xdsl", 4)
        equal(f"by way of {via}, the client as the server sees it", client[0], router)
    if via == "lan":
        bench.bonded(ends)
