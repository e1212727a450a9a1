# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on readers that are slow or pause: how much the boxes take in for them, and whether others notice."""

import re
import socket
import statistics
import threading
import time
from pathlib import Path

from common.transparent import FLOW_BUFFER as DEFAULT
from lab.access import Kind
from lab.bonded import Pair
from lab.daemons import Daemon
from lab.fidelity.bench import Bench, Sending, direct, equal, exchange, expect, payload, receive_all, sha256
from lab.fidelity.matrix import row
from lab.servers import TcpServer

FLOW_BUFFER = 1 << 20
BULK = 12_000_000  # bytes: more than the boxes and both hosts can hold of a connection
STILL = 0.2  # seconds without a change
READERS = 24
PINGS = 300
SLACK = 5.0  # milliseconds: two cores carry the whole network and all who use it
BUSY = 0.1  # seconds of processor time in half a second in which nothing moves


def narrow() -> Pair:
    """As little as a flow may be allowed to hold, on accesses that fill it at once."""
    options = {"flow_buffer": FLOW_BUFFER}
    return Pair(Kind.DIRECT, cpe_options=options, hag_options=options)


def held(bench: Bench, daemon: Daemon) -> int:
    """Bytes that the box has of its only flow: what sockets have received or have still to send, and the relay's.

    Bytes that go from the one to the other between two looks would count twice: then it looks again.
    """
    before = kept(bench, daemon)
    while True:
        size = queued(daemon)
        after = kept(bench, daemon)
        if after == before:
            return size + after
        before = after


def kept(bench: Bench, daemon: Daemon) -> int:
    """The relay's."""
    return sum(int(flow["up_kept"]) + int(flow["down_kept"]) for flow in bench.flows(daemon))


def queued(daemon: Daemon) -> int:
    """The sockets'."""
    listed = daemon.node.run(["ss", "-Hnmit", "state", "established"]).stdout
    listed += daemon.node.run(["ss", "-HnmiM", "state", "established"]).stdout
    size = 0
    for one in re.split(r"\n(?=\S)", listed):
        memory = re.search(r"skmem:\(r(\d+),.*,w(\d+),", one)
        if memory is None:
            continue
        size += int(memory[1])
        if "tcp-ulp-mptcp" not in one:  # what a subflow has to send is its connection's
            size += int(memory[2])
    return size


@row("9d", "of a reader that pauses, a box holds no more than its flow_buffer", setup=narrow)
def paused(bench: Bench) -> None:
    holds_no_more_than(bench, FLOW_BUFFER, payload(BULK, 1))


@row("9g", "the same with the flow_buffer that it has by default", setup=direct)
def paused_by_default(bench: Bench) -> None:
    holds_no_more_than(bench, DEFAULT, payload(4 * BULK, 1))


def holds_no_more_than(bench: Bench, flow_buffer: int, data: bytes) -> None:
    for way in ("down", "up"):
        ends = bench.connect()
        exchange(ends, 100_000)
        bench.bonded(ends)
        source, sink = (ends.server, ends.client) if way == "down" else (ends.client, ends.server)
        sending = Sending(source, data, lambda source=source: source.shutdown(socket.SHUT_WR))  # type: ignore[misc]
        before, since = [0, 0], time.monotonic()
        while time.monotonic() - since < STILL:
            now = [held(bench, daemon) for daemon in (bench.cpe, bench.hag)]
            expect(max(now) <= flow_buffer, f"{way}: the CPE holds {now[0]} bytes, the HAG {now[1]}")
            if now != before:
                before, since = now, time.monotonic()
        expect(sending.is_alive(), f"{way}: the sender is not held back")
        expect(min(before) > flow_buffer // 4, f"{way}: only {before} bytes are held")
        got = receive_all(sink)
        sending.finish()
        equal("what arrives", (got.size, got.sha256, got.ending), (len(data), sha256(data), "FIN"))


@row("9e", "slow readers and paused ones slow nobody else down", setup=narrow)
def others(bench: Bench) -> None:
    servers = [TcpServer(bench.lab.server, mode, port) for mode, port in (("echo", 7), ("source", 19))]
    for server in servers:
        bench.undo(server.process.stop)
    client = bench.dial(servers[0].port)
    idle = ping_times(client)
    readers = [bench.dial(servers[1].port) for _ in range(READERS)]
    bench.until(lambda: len(bench.flows(bench.hag)) == READERS + 1, lambda: f"{len(bench.flows(bench.hag))} flows")
    bench.bonded()
    time.sleep(0.5)  # until all are full
    before = processor_time(bench)
    time.sleep(0.5)
    expect(processor_time(bench) - before <= BUSY, "the workers do not rest though nothing can move")
    over = threading.Event()

    def read_slowly() -> None:
        while not over.wait(0.050):
            for reader in readers[: READERS // 2]:
                reader.recv(1000)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    try:
        busy = ping_times(client)
    finally:
        over.set()
        thread.join()
    expect(busy <= 2 * idle + SLACK, f"99 % of answers within {busy:.1f} ms, without slow readers {idle:.1f} ms")


def ping_times(client: socket.socket) -> float:
    """Milliseconds in which 99 % of small requests are answered."""
    times = []
    for _ in range(PINGS):
        began = time.perf_counter()
        client.sendall(b"ping")
        equal("the answer", client.recv(5), b"ping")
        times.append((time.perf_counter() - began) * 1000)
    return statistics.quantiles(times, n=100)[-1]


def processor_time(bench: Bench) -> float:
    """Seconds that all workers have used so far."""
    pids = [worker["pid"] for daemon in (bench.cpe, bench.hag) for worker in daemon.status()["workers"]]
    # proc(5): fields 14 and 15 are user and system time, in hundredths of a second
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / 100
