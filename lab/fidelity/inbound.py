# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on connections that are opened from the Internet, to hosts behind the router.

Over IPv6 directly, over IPv4 by a port forward of the router. So the Internet's client is on the node `server` here,
and the host that it wants is on the node `client`.
"""

import contextlib
import errno
import socket
import sys
import time
from collections.abc import Sequence

from common import mptcp
from common.transparent import MPTCP
from lab.access import Kind
from lab.bonded import Pair
from lab.daemons import Daemon, Options
from lab.fidelity.bench import (
    PATIENCE,
    Bench,
    Ends,
    Mismatch,
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
from lab.fidelity.matrix import row
from lab.fidelity.middleboxes import AGAIN, DESTINATION, LOST, SILENT_DROP, on_the_way, require_stubborn, stubborn
from lab.fidelity.opening import SLACK, UNREACHABLE, UNREACHABLE6
from lab.fidelity.wire import Syn, Wire
from lab.middlebox import drop
from lab.node import Node

INSIDE, OUTSIDE = 8080, 80  # the host's port, and the port of the router's IPv4 address that is forwarded to it
CLOSED_INSIDE, CLOSED_OUTSIDE = 8081, 81  # a forward to where nobody listens
FIREWALLED = 8082  # the router's firewall does not let this through, though there is a forward
SERVICE = 8083  # of the router itself
UNALLOCATED = {4: "198.51.100.30", 6: "2001:db8:1000:1::dead"}
PROTECTED = ("198.51.100.2/32", "2001:db8:1000:1::/64")  # where the Internet's clients connect to
BEHIND_THE_ACCESS = {4: "198.51.100.20", 6: "2001:db8:2000:1::20"}  # nobody's; no route to it leads to the Internet
SCAN = 3000  # more than one subscriber may have: a quarter of the quarter that is for connections from the Internet

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

CLIENTS = 16
TRANSFER = 4_000_000  # bytes


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


def protecting() -> Pair:
    return Inbound(protect=PROTECTED)


def credulous() -> Pair:
    return Inbound(protect=PROTECTED, starter=[sys.executable, "-m", "lab.credulous"])


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


def carries(bench: Bench, source: socket.socket, sink: socket.socket, size: int, seed: int) -> None:
    """So many bytes one way, which must arrive as they were sent."""
    data = payload(size, seed)
    sending = Sending(source, data)
    got = receive(sink, size)
    sending.finish()
    equal("the hash", sha256(got), sha256(data))


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


@row("7b", "from the Internet: the host inside refuses with RST", setup=Inbound)
def host_refuses(bench: Bench) -> None:
    def attempt() -> float:
        """Seconds that it takes more than the round trip."""
        client = outside_client(bench)
        with bench.counts(bench.cpe, "refused: reset"), bench.counts(bench.hag, "refused: reset"):
            began = time.monotonic()
            error = client.connect_ex(address(bench, CLOSED_OUTSIDE, CLOSED_INSIDE))
            took = time.monotonic() - began
        equal("the error", errno.errorcode.get(error), "ECONNREFUSED")
        return took - 2 * bench.lab.xdsl.profile.delay

    punctual(attempt, SLACK)


def taken(bench: Bench) -> dict[str, int]:
    """What the CPE counts of connections that it has tried to open; not how earlier ones end."""
    counters: dict[str, int] = bench.cpe.status()["counters"]
    return {name: count for name, count in counters.items() if name.startswith(("opened: ", "refused: "))}


@row("7c", "from the Internet: what the router's firewall refuses is not opened", setup=Inbound)
def firewall_refuses(bench: Bench) -> None:
    client = outside_client(bench)
    client.setsockopt(*(UNREACHABLE6 if bench.family == 6 else UNREACHABLE))
    before = taken(bench)
    with inside_listener(bench, FIREWALLED) as listener:
        error = client.connect_ex(address(bench, FIREWALLED, FIREWALLED))
        equal("the error", errno.errorcode.get(error), "EACCES" if bench.family == 6 else "EHOSTUNREACH")
        listener.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            raise Mismatch(f"the host inside has a connection from {listener.accept()[1]}")
    equal("what the router's daemon opens and refuses", taken(bench), before)


@row("7t", "from the Internet: in a name that it cannot be from nothing is opened", setup=Inbound)
def forged(bench: Bench) -> None:
    wire = Wire(bench, bench.lab.server, "core", bench.lab.hag)
    destination = bench.lab.client.address("lan", 6) if bench.family == 6 else bench.lab.cpe.address("xdsl", 4)
    port = INSIDE if bench.family == 6 else OUTSIDE
    with inside_listener(bench) as listener:
        names = [(BEHIND_THE_ACCESS[bench.family], "passed: from the Internet, no route back to the source there")]
        if bench.family == 6:  # over IPv4 the kernel drops it by itself, as a martian
            names.append((bench.lab.hag.address("core", 6), "passed: from the Internet in the gateway's own name"))
        for source, reason in names:
            with bench.counts(bench.hag, reason):
                wire.send(Syn(source, destination, port, capable=False))
        for daemon in both(bench):
            equal(f"flows at {daemon.name}", bench.flows(daemon), [])
        listener.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            raise Mismatch(f"the host inside has a connection from {listener.accept()[1]}")


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
    listener, client = (multipath(bench, node) for node in (bench.lab.client, bench.lab.server))
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


@row("7o", "from the Internet: to what is protected nothing is opened", setup=protecting)
def protected(bench: Bench) -> None:
    with bench.counts(bench.hag, "passed: protected destination"):
        plainly(bench)


@row(
    "7p",
    "from the Internet: what is protected, the kernel keeps from a gateway that opens all",
    setup=credulous,
    slow=True,
)
def protected_by_the_kernel(bench: Bench) -> None:
    stopped = bench.counter(bench.hag, "refused: closed destination")
    with inside_listener(bench) as listener:
        client = outside_client(bench)
        client.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            client.connect(address(bench))
            raise Mismatch("there is a connection")
        client.close()
        listener.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            raise Mismatch(f"the host inside has a connection from {listener.accept()[1]}")
    equal("SYNs stopped", bench.counter(bench.hag, "refused: closed destination") - stopped, 1)


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


def multipath(bench: Bench, node: Node) -> socket.socket:
    with node.entered():
        sock = socket.socket(socket.AF_INET6 if bench.family == 6 else socket.AF_INET, socket.SOCK_STREAM, MPTCP)
    bench.undo(sock.close)
    sock.settimeout(PATIENCE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


@row("7l", "from the Internet: a scan of addresses that nobody has", setup=Inbound, slow=True)
def scanned(bench: Bench) -> None:
    """One subscriber's share is all that it takes up, and his other connections work meanwhile."""
    scan = []
    for number in range(SCAN):
        probe = outside_client(bench)
        probe.setblocking(False)
        probe.connect_ex((UNALLOCATED[bench.family], 1 + number))
        scan.append(probe)

    def passed() -> int:
        counters: dict[str, int] = bench.hag.status()["counters"]
        return sum(count for reason, count in counters.items() if reason.startswith("passed: too many"))

    bench.until(passed, lambda: f"none passed: {bench.hag.status()}")
    status = bench.hag.status()
    expect(status["flows"] <= status["max_flows"] // 16 + 2, f"{status['flows']} of {status['max_flows']} are held")
    exchange(connect(bench))
    for probe in scan:
        probe.close()
    bench.until(lambda: len(bench.flows(bench.hag)) <= 1, lambda: "the scan is still held", 60.0)
