# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on hosts that go without a word: in the end nothing is left of their connections anywhere.

When that is, settings of the kernel say, which are minutes and hours; on these boxes they are seconds.
"""

import time

from lab.bonded import Pair
from lab.fidelity.bench import Bench, Ends, equal, exchange, receive_all
from lab.fidelity.matrix import row
from lab.node import Node

SOON = {
    "ipv4/tcp_keepalive_time": 1,
    "ipv4/tcp_keepalive_intvl": 1,
    "ipv4/tcp_keepalive_probes": 2,
    "ipv4/tcp_retries2": 3,
    "ipv4/tcp_syn_retries": 1,
    "mptcp/close_timeout": 1,
}
WITHIN = 12.0  # seconds
REPEATED = 45.0  # seconds: the CPE has tried for 30 s to get the secondary link back (cpe/joins.py)

SILENCE = """\
table inet vanished {
	chain in { type filter hook input priority 0; policy drop; }
	chain out { type filter hook output priority 0; policy drop; }
}
"""


class Impatient(Pair):
    """A pair whose boxes soon notice that nobody is there."""

    def __enter__(self) -> "Impatient":
        super().__enter__()
        for node in (self.lab.cpe, self.lab.hag):
            node.sysctl(SOON)
        return self


def vanish(bench: Bench, node: Node) -> None:
    """The node hears and says nothing any more, until the row is over."""
    node.run(["nft", "-f", "-"], text=SILENCE)
    bench.undo(lambda: node.run(["nft", "delete", "table", "inet", "vanished"]))


def idle_and_busy(bench: Bench) -> tuple[Ends, Ends]:
    """Two connections, one of which has grown enough to use both links."""
    idle, busy = bench.connect(), bench.connect()
    exchange(idle)
    exchange(busy, 100_000)
    for ends in (idle, busy):
        bench.bonded(ends)
    return idle, busy


def is_over(bench: Bench, *who: str, within: float = WITHIN, connections: tuple[Ends, Ends]) -> None:
    """Both connections end with RST for those who are still there, and both boxes forget them."""
    deadline = time.monotonic() + within
    for name, ends in zip(("idle", "busy"), connections, strict=True):
        for end in who:
            sock = getattr(ends, end)
            sock.settimeout(max(deadline - time.monotonic(), 0.1))
            equal(f"the {name} connection's ending for the {end}", receive_all(sock).ending, "RST")
    for daemon in (bench.cpe, bench.hag):
        bench.until(
            lambda daemon=daemon: not bench.flows(daemon),  # type: ignore[misc]
            lambda daemon=daemon: f"{daemon.name} still has {bench.flows(daemon)}",  # type: ignore[misc]
            patience=max(deadline - time.monotonic(), 0.1),
        )


@row("8n", "the client vanishes", setup=Impatient, slow=True)
def client_vanishes(bench: Bench) -> None:
    idle, busy = idle_and_busy(bench)
    vanish(bench, bench.lab.client)
    busy.server.sendall(bytes(1000))
    is_over(bench, "server", connections=(idle, busy))


@row("8o", "the server vanishes", setup=Impatient, slow=True)
def server_vanishes(bench: Bench) -> None:
    idle, busy = idle_and_busy(bench)
    vanish(bench, bench.lab.server)
    busy.client.sendall(bytes(1000))
    is_over(bench, "client", connections=(idle, busy))


@row("8p", "the boxes vanish for each other", setup=Impatient, slow=True)
def accesses_vanish(bench: Bench) -> None:
    idle, busy = idle_and_busy(bench)
    for access in bench.lab.accesses:
        access.blackhole(True)
        bench.undo(lambda access=access: access.blackhole(False))  # type: ignore[misc]
    for sock in (busy.client, busy.server):
        sock.sendall(bytes(1000))
    is_over(bench, "client", "server", within=REPEATED, connections=(idle, busy))
