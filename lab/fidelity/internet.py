# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections that are opened from the Internet: a pair that bonds them, and both their ends.

Over IPv6 directly, over IPv4 by a port forward of the router. So the Internet's client is on the node `server` here,
and the host that it wants is on the node `client`.
"""

import socket
from collections.abc import Sequence

from lab.access import Kind
from lab.bonded import Pair
from lab.daemons import Daemon, Options
from lab.fidelity.bench import PATIENCE, Bench, Ends, equal, exchange, receive_all

INSIDE, OUTSIDE = 8080, 80  # the host's port, and the port of the router's IPv4 address that is forwarded to it
CLOSED_INSIDE, CLOSED_OUTSIDE = 8081, 81  # a forward to where nobody listens
FIREWALLED = 8082  # the router's firewall does not let this through, though there is a forward
SERVICE = 8083  # of the router itself

# What the router's owner adds for his servers: forwards, and what the firewall is to let through.
CPE = f"""\
insert rule inet lab_firewall forward iifname "xdsl" oifname "lan" tcp dport {{ {INSIDE}, {CLOSED_INSIDE} }} accept
insert rule inet lab_firewall forward iifname "xdsl" tcp dport {FIREWALLED} reject with icmpx type admin-prohibited
insert rule inet lab_firewall input iifname "xdsl" tcp dport {SERVICE} accept
table ip lab_forwards {{
  chain prerouting {{
    type nat hook prerouting priority dstnat
    iifname "xdsl" ip daddr 198.51.100.2 tcp dport {OUTSIDE} dnat to 192.0.2.10:{INSIDE}
    iifname "xdsl" ip daddr 198.51.100.2 tcp dport {CLOSED_OUTSIDE} dnat to 192.0.2.10:{CLOSED_INSIDE}
    iifname "xdsl" ip daddr 198.51.100.2 tcp dport {FIREWALLED} dnat to 192.0.2.10:{FIREWALLED}
  }}
}}
"""
HAG = """\
insert rule inet lab_firewall forward iifname "core" oifname "xdsl" accept
"""


class Inbound(Pair):
    """A pair that bonds connections from the Internet too, or whose one side does not."""

    def __init__(
        self,
        *,
        accesses: Kind = Kind.EMULATED,
        cpe: str = "1",
        hag: str = "1",
        protect: Sequence[str] = (),
        workers: int | None = None,
        starter: Sequence[str] = (),
    ) -> None:
        """`workers` of each box; None is as many as there are by default."""
        options: Options = {} if workers is None else {"workers": workers}
        super().__init__(
            accesses,
            cpe_options={"inbound": cpe, **options},
            hag_options={"inbound": hag, "protect": protect, **options},
            starter=starter,
        )

    def __enter__(self) -> Pair:
        super().__enter__()
        self.lab.cpe.run(["nft", "-f", "-"], text=CPE)
        self.lab.hag.run(["nft", "-f", "-"], text=HAG)
        return self


def address(bench: Bench, outside: int = OUTSIDE, inside: int = INSIDE) -> tuple[str, int]:
    """Where the Internet's client connects to."""
    if bench.family == 4:
        return bench.lab.cpe.address("xdsl", 4), outside
    return bench.lab.client.address("lan", 6), inside


def inside_listener(bench: Bench, port: int = INSIDE) -> socket.socket:
    listener = bench.tcp(bench.lab.client, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    listener.bind((bench.lab.client.address("lan", bench.family), port))
    listener.listen(64)
    return listener


def outside_client(bench: Bench, source: str = "") -> socket.socket:
    client = bench.tcp(bench.lab.server, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    client.bind((source or bench.server_address, 0))
    return client


def connect(bench: Bench, source: str = "") -> Ends:
    """A connection from the Internet with both its ends; the host inside sees whose it is."""
    with inside_listener(bench) as listener:
        client = outside_client(bench, source)
        client.connect(address(bench))
        server, peer = listener.accept()
    bench.undo(server.close)
    server.settimeout(PATIENCE)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    equal("whom the host inside sees", peer[:2], client.getsockname()[:2])
    return Ends(client, server)


def both(bench: Bench) -> tuple[Daemon, Daemon]:
    return bench.cpe, bench.hag


def plainly(bench: Bench) -> None:
    """A connection from the Internet works, and nobody says that it is bonded."""
    before = [bench.counter(daemon, "opened: bonded") for daemon in both(bench)]
    ends = connect(bench)
    exchange(ends)
    ends.client.shutdown(socket.SHUT_WR)
    equal("what the host receives", receive_all(ends.server).ending, "FIN")
    ends.server.shutdown(socket.SHUT_WR)
    equal("what the client receives", receive_all(ends.client).ending, "FIN")
    equal("bonded connections", [bench.counter(daemon, "opened: bonded") for daemon in both(bench)], before)
