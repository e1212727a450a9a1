# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on what a box runs out of: new connections are plain ones then, and nobody is turned away."""

import contextlib
import ipaddress
import json
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab.access import Kind
from lab.bonded import Pair
from lab.daemons import Daemon
from lab.fidelity.bench import PATIENCE, Bench, Ends, direct, equal, exchange, expect, receive_all
from lab.fidelity.matrix import row
from lab.flood import Flood, Sources, Target
from lab.node import Node
from lab.servers import WebServer

MPTCP = 262  # IPPROTO_MPTCP
RECOVERY = 1.0  # seconds after the end of a shortage until connections are bonded again
IDLE = 0.05  # of a processor, at most, while a box is short of something
OF_ONE, OF_ALL = 6, 9  # connections that the HAG allows in `scarce`: of one subscriber, of all of them
FILES = 300  # open files of a process there
PAGE = 1000  # bytes of what is visited
QUEUE = 4096  # SYNs that can wait for a worker
PACE = 0.05  # seconds between visits in a flood
GOOD = 0.95  # of them, at least, succeed
FLAT = 8 << 20  # bytes that a worker may grow by in a flood: what may be half-open takes some
SILENT = {4: "203.0.113.20", 6: "2001:db8:3000::200"}  # where nobody answers

# One host with two addresses in its subscriber's prefix; another subscriber.
SECOND_ADDRESS = {4: "192.0.2.11/26", 6: "2001:db8:1000:1::11/64"}
OTHER_SUBSCRIBER = {4: "198.51.100.5/26", 6: "2001:db8:1000:100::1/56"}


def scarce() -> Pair:
    gateway = {"workers": 1, "max_flows": OF_ALL, "max_flows_per_subscriber": OF_ONE}
    return Pair(Kind.DIRECT, cpe_options={"workers": 1}, hag_options=gateway, starter=["prlimit", f"--nofile={FILES}"])


@row("12a", "flow table full: as many connections as descriptors suffice for, and more", setup=scarce)
def table_is_full(bench: Bench) -> None:
    listener = bench.listen()
    allowed, more = bench.cpe.status()["max_flows"], 6
    before = shortages(bench.cpe)
    with bench.counts(bench.cpe, "passed: table full", more):
        ends = [bench.connect(listener=listener) for _ in range(allowed + more)]
    equal("the number of bonded connections", len(bench.flows(bench.cpe)), allowed)
    for each in ends:
        exchange(each, 300_000)  # enough for pipes, of which there is none for each
    equal("what it has lacked", shortages(bench.cpe), before)
    close(ends[0])
    recovers(bench, listener, bench.cpe)


@row("12b", "one subscriber has as many connections as he may", setup=scarce)
def subscriber_has_enough(bench: Bench) -> None:
    listener = bench.listen()
    second = SECOND_ADDRESS[bench.family]
    bench.lab.client.configure([f"address replace {second} dev lan{' nodad' if bench.family == 6 else ''}"])
    with bench.counts(bench.hag, "passed: too many connections of this subscriber", 2):
        ends = [bench.connect(listener=listener) for _ in range(OF_ONE - 1)]
        ends += [connect_from(bench, second.partition("/")[0], listener) for _ in range(3)]
    equal("the connections of one subscriber", len(bench.flows(bench.hag)), OF_ONE)
    bring_other_subscriber(bench)
    others = [connect_other_subscriber(bench, listener) for _ in range(OF_ALL - OF_ONE)]
    equal("all connections", len(bench.flows(bench.hag)), OF_ALL)
    expect(all(flow["bonded"] for flow in bench.flows(bench.hag)), "another subscriber is not bonded")
    with bench.counts(bench.hag, "passed: table full"):
        others.append(connect_other_subscriber(bench, listener))
    for each in (*ends, *others):
        exchange(each)
    close(ends[0])
    recovers(bench, listener, bench.hag)


@row("12c", "the limit of open files falls below what is open", setup=scarce)
def descriptors_run_out(bench: Bench) -> None:
    listener = bench.listen()
    ends = [bench.connect(listener=listener)]
    exchange(ends[0])
    with contextlib.ExitStack() as shortage:
        for daemon in (bench.hag, bench.cpe):
            shortage.enter_context(open_files(worker_of(daemon), 0))
            with bench.counts(daemon, "passed: cannot connect: Too many open files", 3):
                ends += [bench.connect(listener=listener) for _ in range(3)]
    recovers(bench, listener, bench.hag)
    with contextlib.ExitStack() as shortage:
        for daemon in (bench.hag, bench.cpe):
            # One descriptor is left, for the server leg. That there is none for the client leg must not be its end.
            shortage.enter_context(open_files(worker_of(daemon), lowest_free(worker_of(daemon)) + 1))
            before = len(bench.flows(daemon))
            with bench.counts(daemon, "passed: no descriptors left", 3):
                ends += [bench.connect(listener=listener) for _ in range(4)]
            equal(f"what {daemon.name} has taken", len(bench.flows(daemon)) - before, 1)
        with idle([worker_of(daemon) for daemon in (bench.cpe, bench.hag)], 2.0):
            ends.append(bench.connect(listener=listener))
        for each in ends:
            exchange(each)
    recovers(bench, listener, bench.cpe)
    recovers(bench, listener, bench.hag)


@row("12d", "1 s of SYNs from made-up hosts of the LAN", setup=direct)
def flood_from_the_lan(bench: Bench) -> None:
    flood_at_the_router(bench, 1.0)
    start_afresh(bench)


@row("12e", "10 s of SYNs from made-up hosts of the LAN, and nothing stays behind", setup=direct, slow=True)
def long_flood_from_the_lan(bench: Bench) -> None:
    flood_at_the_router(bench, 10.0)
    forgets(bench, bench.cpe)


@row("12f", "1 s of SYNs with MP_CAPABLE from made-up subscribers", setup=direct)
def flood_from_the_access(bench: Bench) -> None:
    flood_at_the_gateway(bench, 1.0)
    start_afresh(bench)


@row("12g", "10 s of SYNs with MP_CAPABLE from made-up subscribers, and nothing stays behind", setup=direct, slow=True)
def long_flood_from_the_access(bench: Bench) -> None:
    flood_at_the_gateway(bench, 10.0)
    forgets(bench, bench.hag)


def start_afresh(bench: Bench) -> None:
    """In place of waiting until all that is half-open is given up."""
    for daemon in (bench.cpe, bench.hag):
        daemon.stop()
    for daemon in (bench.hag, bench.cpe):
        daemon.start()


def close(ends: Ends) -> None:
    """In order, from the client's side."""
    ends.client.shutdown(socket.SHUT_WR)
    receive_all(ends.server)
    ends.server.close()
    receive_all(ends.client)


def recovers(bench: Bench, listener: socket.socket, daemon: Daemon) -> None:
    """Expects that new connections are soon bonded again."""
    before = bench.counter(daemon, "opened: bonded")

    def bonds() -> bool:
        with contextlib.closing(bench.connect(listener=listener).client):
            return bench.counter(daemon, "opened: bonded") > before

    bench.until(bonds, lambda: f"{daemon.name} does not bond again: {daemon.status()['counters']}", RECOVERY)


def connect_from(bench: Bench, address: str, listener: socket.socket) -> Ends:
    client = bench.tcp(bench.lab.client)
    client.bind((address, 0))
    client.connect(listener.getsockname()[:2])
    return Ends(client, accept(bench, listener))


def bring_other_subscriber(bench: Bench) -> None:
    """Its connections begin on the CPE's node, but not at its daemon."""
    address = OTHER_SUBSCRIBER[bench.family]
    cpe = bench.lab.cpe
    if bench.family == 4:
        cpe.configure([f"address replace {address} dev xdsl"])
        cpe.run(["nft", "insert", "rule", "ip", "lab_nat", "postrouting", "ip", "saddr", host(address), "accept"])
    else:
        cpe.configure([f"address replace {host(address)} dev lo nodad"])
        prefix = ipaddress.ip_interface(address).network
        bench.lab.hag.configure([f"route replace {prefix} via {cpe.address('xdsl', 6)} dev xdsl"])


def connect_other_subscriber(bench: Bench, listener: socket.socket) -> Ends:
    with bench.lab.cpe.entered():
        family = socket.AF_INET6 if bench.family == 6 else socket.AF_INET
        client = socket.socket(family, socket.SOCK_STREAM, MPTCP)
    bench.undo(client.close)
    client.settimeout(PATIENCE)
    client.bind((host(OTHER_SUBSCRIBER[bench.family]), 0))
    client.connect(listener.getsockname()[:2])
    return Ends(client, accept(bench, listener))


def host(prefix: str) -> str:
    return prefix.partition("/")[0]


def accept(bench: Bench, listener: socket.socket) -> socket.socket:
    server = listener.accept()[0]
    bench.undo(server.close)
    server.settimeout(PATIENCE)
    return server


def worker_of(daemon: Daemon) -> int:
    """The process of its only worker."""
    (worker,) = daemon.status()["workers"]
    return int(worker["pid"])


def shortages(daemon: Daemon) -> dict[str, int]:
    """How often it has lacked a descriptor, by what for."""
    counters = daemon.status()["counters"]
    return {name: count for name, count in counters.items() if "open files" in name or "descriptors" in name}


@contextlib.contextmanager
def open_files(process: int, most: int) -> Iterator[None]:
    """Inside, the process gets no descriptor with this number or a higher one."""
    soft, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_NOFILE, (soft, hard))


def lowest_free(process: int) -> int:
    """The descriptor that the process would get next."""
    taken = {int(name) for name in os.listdir(f"/proc/{process}/fd")}
    return min(set(range(len(taken) + 1)) - taken)


@contextlib.contextmanager
def idle(processes: Sequence[int], seconds: float) -> Iterator[None]:
    """Expects that so long from now none of the processes has had much to do."""
    began, before = time.monotonic(), [processor_time(process) for process in processes]
    yield
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    for process, spent in zip(processes, before, strict=True):
        share = (processor_time(process) - spent) / (time.monotonic() - began)
        expect(share <= IDLE, f"process {process} takes {share:.0%} of a processor")


def processor_time(process: int) -> float:
    """Seconds so far: proc(5), utime and stime of /proc/PID/stat."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flood_at_the_router(bench: Bench, seconds: float) -> None:
    lab, family = bench.lab, bench.family
    if family == 4:
        behind, sources = "192.0.2.128/26", Sources("192.0.2.129", 60, 2)
    else:
        behind, sources = "2001:db8:1000:80::/58", Sources("2001:db8:1000:80::1", 60, 4)
    # They are behind the client, which keeps silent: on the LAN itself the router would look for each.
    lab.cpe.configure([f"route replace {behind} via {lab.client.address('lan', family)} dev lan"])
    withstands(
        bench, bench.cpe, lambda targets: Flood(lab.client, "lan", mac(lab.cpe, "lan"), sources, targets, seconds)
    )


def flood_at_the_gateway(bench: Bench, seconds: float) -> None:
    lab, family = bench.lab, bench.family
    if family == 4:
        sources = Sources("198.51.100.3", 59, 2)
    else:
        sources = Sources("2001:db8:1000:100::1", 60, 4, 0x100)
        lab.hag.configure([f"route replace 2001:db8:1000::/36 via {lab.cpe.address('xdsl', 6)} dev xdsl"])
        lab.cpe.configure(["route replace blackhole 2001:db8:1000::/36"])
    withstands(
        bench,
        bench.hag,
        lambda targets: Flood(lab.cpe, "xdsl", mac(lab.hag, "xdsl"), sources, targets, seconds, capable=True),
    )


def mac(node: Node, device: str) -> str:
    (shown,) = json.loads(node.run(["ip", "-json", "link", "show", device]).stdout)
    return str(shown["address"])


def withstands(bench: Bench, daemon: Daemon, make: Callable[[list[Target]], Flood]) -> None:
    """Expects that a flood at this box, half of it to a server that answers, keeps hardly anybody from connecting."""
    silent = SILENT[bench.family]
    bench.lab.hag.configure([f"neighbour replace {silent} lladdr 02:00:00:00:00:01 dev core"])
    bench.pair.web.publish("page", PAGE)
    victim = bench.listen(backlog=4096)
    flood = make([Target(*victim.getsockname()[:2]), Target(silent, 80)])
    expect(Visit(bench).wait(), "a visit before the flood fails")
    before = {pid: memory(pid) for pid in workers_of(daemon)}
    flood.start()
    visits = []
    while flood.is_alive():
        visits.append(Visit(bench))
        time.sleep(PACE)
    bench.until(lambda: takes(bench, daemon), lambda: f"{daemon.name} takes nothing: {daemon.status()}", RECOVERY)
    good = sum(each.wait() for each in visits)
    expect(good >= GOOD * len(visits), f"{good} of {len(visits)} visits succeed")
    for pid, size in before.items():
        expect(memory(pid) - size <= FLAT, f"worker {pid} grows by {memory(pid) - size} bytes")
    equal("packets lost in the queue", lost(daemon), 0)
    expect(flood.sent > QUEUE, f"no flood: {flood.sent} SYNs")


def takes(bench: Bench, daemon: Daemon) -> bool:
    """Whether a new connection is not passed on unbonded."""

    def opened() -> int:
        return sum(bench.counter(daemon, name) for name in ("opened: bonded", "opened: plain TCP"))

    before = opened()
    return Visit(bench).wait() and opened() > before


class Visit(threading.Thread):
    """One page from the web server, as a user would get it."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(daemon=True)
        self._socket = bench.client()
        self._server = bench.server_address
        self.took = 0.0
        self._good = False
        self.start()

    def wait(self) -> bool:
        """Whether all of it came."""
        self.join()
        return self._good

    def run(self) -> None:
        began = time.monotonic()
        with self._socket, contextlib.suppress(OSError):
            self._socket.connect((self._server, WebServer.PORT))
            self._socket.sendall(b"GET /page HTTP/1.0\r\n\r\n")
            self._socket.shutdown(socket.SHUT_WR)
            answer = receive_all(self._socket)
            self._good = answer.size > PAGE and answer.ending == "FIN"
        self.took = time.monotonic() - began


def workers_of(daemon: Daemon) -> list[int]:
    return [worker["pid"] for worker in daemon.status()["workers"]]


def memory(process: int) -> int:
    """Bytes that are resident."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def lost(daemon: Daemon) -> int:
    """Packets that the daemon's queues have lost: nfqnl's seq_show(), fields 6 and 7."""
    with daemon.node.entered():
        lines = Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text().splitlines()
    return sum(int(lost) for line in lines for lost in line.split()[5:7])


def forgets(bench: Bench, daemon: Daemon) -> None:
    """Expects that nothing half-open is left when its time is over."""
    bench.until(lambda: not bench.flows(daemon), lambda: f"{daemon.name} still has connections", 45.0)
