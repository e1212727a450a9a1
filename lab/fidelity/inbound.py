# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on connections that are opened from the Internet, to hosts behind the router."""

import socket
import time

from common import mptcp
from lab.bonded import Pair
from lab.daemons import Daemon
from lab.fidelity.bench import (
    PATIENCE,
    Bench,
    Ends,
    Sending,
    equal,
    exchange,
    expect,
    payload,
    punctual,
    receive,
    receive_all,
    sha256,
)
from lab.fidelity.internet import INSIDE, SERVICE, Inbound, address, both, connect, outside_client, plainly
from lab.fidelity.matrix import row
from lab.fidelity.middleboxes import AGAIN, DESTINATION, LOST, SILENT_DROP, on_the_way, require_stubborn, stubborn
from lab.fidelity.native import sock
from lab.fidelity.opening import SLACK
from lab.fidelity.wire import Syn, Wire
from lab.middlebox import drop

CLIENTS = 16
TRANSFER = 4_000_000  # bytes


def cpe_off() -> Pair:
    return Inbound(cpe="0")


def hag_off() -> Pair:
    return Inbound(hag="0")


class WithoutIpv6(Inbound):
    """The gateway's host itself has no IPv6 of its own, though it forwards it."""

    def __enter__(self) -> Pair:
        super().__enter__()
        self.hag.stop()
        self.lab.hag.sysctl({"ipv6/conf/lo/disable_ipv6": 1})
        self.hag.start()
        return self


class Stubborn(Inbound):
    """The gateway's kernel never leaves the option out of a SYN, as those before 6.12."""

    def __enter__(self) -> Pair:
        require_stubborn()
        super().__enter__()
        stubborn(self.hag)
        return self


def carries(bench: Bench, source: socket.socket, sink: socket.socket, size: int, seed: int) -> None:
    """So many bytes one way, which must arrive as they were sent."""
    data = payload(size, seed)
    sending = Sending(source, data)
    got = receive(sink, size)
    sending.finish()
    equal("the hash", sha256(got), sha256(data))


@row("7a", "from the Internet: bonded on both boxes, over both accesses, both ways", setup=Inbound)
def bonded_from_the_internet(bench: Bench) -> None:
    ends = connect(bench)
    exchange(ends)
    name = ends.client.getsockname()[:2]
    for daemon in both(bench):
        (flow,) = bench.flows(daemon)
        expect(flow["bonded"], f"{daemon.name} does not bond it: {flow}")
        equal(f"the client that {daemon.name} shows", (flow["client"], flow["client_port"]), name)
        equal(f"the server that {daemon.name} shows", (flow["server"], flow["server_port"]), address(bench))
    before = {access.name: access.stats() for access in bench.lab.accesses}
    carries(bench, ends.client, ends.server, TRANSFER, 11)
    carries(bench, ends.server, ends.client, TRANSFER // 2, 12)
    for access in bench.lab.accesses:
        for way, size in (("down", TRANSFER), ("up", TRANSFER // 2)):
            moved = access.stats()[way]["bytes"] - before[access.name][way]["bytes"]
            expect(moved > size // 10, f"{access.name} carried {moved} of {size} bytes {way}")
    for daemon in both(bench):
        equal(f"subflows at {daemon.name}", [flow["subflows"] for flow in bench.flows(daemon)], [2])


@row("7d", "from the Internet: half-close in each direction, data after it", setup=Inbound)
def half_closes(bench: Bench) -> None:
    for turn in (0, 1):
        ends = connect(bench)
        first, second = (ends.client, ends.server) if turn == 0 else (ends.server, ends.client)
        first.sendall(payload(1000, 1))
        first.shutdown(socket.SHUT_WR)
        got = receive_all(second)
        equal("what comes before the half-close", (got.size, got.ending), (1000, "FIN"))
        after = payload(300_000, 2)
        sending = Sending(second, after, lambda second=second: second.shutdown(socket.SHUT_WR))  # type: ignore[misc]
        got = receive_all(first)
        sending.finish()
        equal("what comes after it", (got.size, got.sha256, got.ending), (len(after), sha256(after), "FIN"))


@row("7e", "from the Internet: RST from either side", setup=Inbound)
def resets(bench: Bench) -> None:
    for turn in (0, 1):
        ends = connect(bench)
        exchange(ends)
        first, second = (ends.client, ends.server) if turn == 0 else (ends.server, ends.client)
        first.close()
        equal("how it ends", receive_all(second).ending, "RST")


@row("7f", "from the Internet: a service of the router's own is not taken", setup=Inbound)
def routers_own(bench: Bench) -> None:
    own = bench.lab.cpe.address("xdsl" if bench.family == 4 else "lan", bench.family)
    listener = bench.tcp(bench.lab.cpe, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    listener.bind((own, SERVICE))
    listener.listen()
    client = outside_client(bench)
    client.connect((own, SERVICE))
    server = listener.accept()[0]
    bench.undo(server.close)
    server.settimeout(PATIENCE)
    exchange(Ends(client, server))
    equal("flows at the router", bench.flows(bench.cpe), [])
    equal("bonded at the gateway", [flow["bonded"] for flow in bench.flows(bench.hag)], [False])


@row("7g", "from the Internet and to it at one time", setup=Inbound)
def both_directions(bench: Bench) -> None:
    inbound, outbound = connect(bench), bench.connect()
    exchange(inbound)
    exchange(outbound)
    bench.bonded()
    for daemon in both(bench):
        equal(f"flows at {daemon.name}", len(bench.flows(daemon)), 2)


@row("7h", "from the Internet: with the router's daemon dead", setup=Inbound)
def dead_cpe(bench: Bench) -> None:
    without(bench, bench.cpe)


@row("7i", "from the Internet: with the gateway's daemon dead", setup=Inbound)
def dead_hag(bench: Bench) -> None:
    without(bench, bench.hag)


def without(bench: Bench, daemon: Daemon) -> None:
    daemon.kill_all()
    try:
        ends = connect(bench)
        exchange(ends)
    finally:
        daemon.start()


@row("7j", "from the Internet: the router has it off", setup=cpe_off)
def off_at_the_router(bench: Bench) -> None:
    with bench.counts(bench.hag, "opened: plain TCP"):
        plainly(bench)


@row("7k", "from the Internet: the gateway has it off", setup=hag_off)
def off_at_the_gateway(bench: Bench) -> None:
    plainly(bench)


@row("7m", "from the Internet: a client and a host that speak Multipath TCP have it with each other", setup=Inbound)
def native(bench: Bench) -> None:
    listener, client = (sock(bench, node, mptcp=True) for node in (bench.lab.client, bench.lab.server))
    listener.bind((bench.lab.client.address("lan", bench.family), INSIDE))
    listener.listen()
    client.bind((bench.server_address, 0))
    with bench.counts(bench.cpe, "passed: not a gateway's Multipath TCP"):
        client.connect(address(bench))
        server = listener.accept()[0]
        bench.undo(server.close)
        server.settimeout(PATIENCE)
        exchange(Ends(client, server))
    expect(mptcp.token(client) is not None and mptcp.token(server) is not None, "they have plain TCP")
    for daemon in both(bench):
        equal(f"flows at {daemon.name}", bench.flows(daemon), [])


@row("7n", "from the Internet: a signed SYN on an open connection's addresses and ports harms nothing", setup=Inbound)
def signed(bench: Bench) -> None:
    ends = connect(bench)
    workers = [worker["pid"] for worker in bench.hag.status()["workers"]]
    (source, sport), (destination, dport) = ends.client.getsockname()[:2], ends.client.getpeername()[:2]
    wire = Wire(bench, bench.lab.server, "core", bench.lab.hag)
    with bench.counts(bench.hag, "dropped: signed segment, where a connection is"):
        wire.send(Syn(source, destination, dport, sport, capable=False, signed=True))
    exchange(ends)
    for daemon in both(bench):
        equal(f"bonded at {daemon.name}", [flow["bonded"] for flow in bench.flows(daemon)], [True])
    equal("the gateway's workers", [worker["pid"] for worker in bench.hag.status()["workers"]], workers)


@row("7s", "from the Internet: a gateway without IPv6 on its loopback device passes that", setup=WithoutIpv6)
def without_ipv6(bench: Bench) -> None:
    if bench.family == 4:
        exchange(connect(bench))
        equal("bonded at the gateway", [flow["bonded"] for flow in bench.flows(bench.hag)], [True])
        return
    with bench.counts(bench.hag, "passed: this box lacks the address family"):
        plainly(bench)
    with bench.counts(bench.hag, "passed: this box lacks the address family"):
        exchange(bench.connect())


@row("7z", "from the Internet: SYNs with the option are dropped on the access", setup=Stubborn, slow=True)
def lost(bench: Bench) -> None:
    with on_the_way(bench.lab.cpe, drop("xdsl")), bench.counts(bench.hag, AGAIN):
        began = time.monotonic()
        ends = connect(bench)
        took = time.monotonic() - began
        expect(took <= SILENT_DROP, f"opening takes {took:.1f} s")
        exchange(ends, TRANSFER // 10)
        equal("bonded at the gateway", [flow["bonded"] for flow in bench.flows(bench.hag)], [False])


@row("7ab", "from the Internet: the subscriber's access drops SYNs with the option", setup=Inbound, slow=True)
def lost_to_a_subscriber(bench: Bench) -> None:
    def opening() -> float:
        began = time.monotonic()
        exchange(connect(bench))
        return time.monotonic() - began

    def later() -> float:
        """Seconds that it takes more than the round trips over xDSL: of the handshake, and of the bytes."""
        with bench.counts(bench.hag, f"passed: {DESTINATION}"):
            return opening() - 4 * bench.lab.xdsl.profile.delay

    try:
        with on_the_way(bench.lab.cpe, drop("xdsl")):
            with bench.counts(bench.hag, f"plain: {LOST}"):
                took = opening()
            expect(took <= SILENT_DROP, f"the first connection takes {took:.1f} s")
            punctual(later, SLACK)
        subscriber = bench.lab.cpe.address("xdsl", 4) if bench.family == 4 else "2001:db8:1000::/56"
        equal("what is avoided", [it["destination"] for it in bench.hag.status()["avoided"]], [subscriber])
    finally:
        bench.close()
        bench.hag.restart()
    exchange(connect(bench))
    bench.bonded()


def two_workers() -> Pair:
    return Inbound(workers=2)


@row("7ad", "from the Internet: two workers on each box share the connections", setup=two_workers, slow=True)
def shared(bench: Bench) -> None:
    length = 26 if bench.family == 4 else 64
    stem = bench.server_address.removesuffix("10")
    sources = [f"{stem}{number}" for number in range(20, 20 + CLIENTS)]
    nodad = " nodad" if bench.family == 6 else ""
    bench.lab.server.configure(f"address add {source}/{length} dev core{nodad}" for source in sources)
    bench.undo(lambda: bench.lab.server.configure(f"address del {it}/{length} dev core" for it in sources))
    everybody = [connect(bench, source) for source in sources]
    for number, ends in enumerate(everybody):
        exchange(ends, 100_000, number)
    for daemon in both(bench):
        equal(f"bonded at {daemon.name}", [it["bonded"] for it in bench.flows(daemon)], [True] * CLIENTS)
        flows = [worker["flows"] for worker in daemon.status()["workers"]]
        # Addresses decide, so it is by chance: once in 32 768 times all have the same worker.
        expect(len(flows) == 2 and all(flows), f"the workers of {daemon.name} have {flows} connections")
    for ends in everybody[::2]:
        ends.client.close()
        equal("how it ends", receive_all(ends.server).ending, "RST")
    for number, ends in enumerate(everybody[1::2]):
        exchange(ends, 10_000, number)
