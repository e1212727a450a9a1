# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on the bytes between beginning and end: how many, how few, both ways at once."""

import hashlib
import random
import socket
import statistics
import threading
import time

from lab.fidelity.bench import (
    Bench,
    Ends,
    Received,
    Sending,
    Via,
    direct,
    equal,
    exchange,
    expect,
    payload,
    receive,
    receive_all,
    sha256,
)
from lab.fidelity.buffers import narrow
from lab.fidelity.matrix import row
from lab.servers import TcpServer

KEYS = 300  # keystrokes
KEY_DELAY = 2.0  # milliseconds that the pair may add to each
GIBIBYTE = 1 << 30
CHUNK = 1 << 20


def opened(bench: Bench) -> Ends:
    """A connection that has carried some bytes each way."""
    ends = bench.connect()
    exchange(ends)
    bench.bonded(ends)
    return ends


@row("9a", "full both ways at once, over both accesses")
def both_ways(bench: Bench) -> None:
    ends = opened(bench)
    up, down = payload(400_000, 1), payload(1_000_000, 2)
    sendings = [Sending(ends.client, up, lambda: ends.client.shutdown(socket.SHUT_WR))]
    sendings += [Sending(ends.server, down, lambda: ends.server.shutdown(socket.SHUT_WR))]
    at_server: list[Received] = []
    receiving = threading.Thread(target=lambda: at_server.append(receive_all(ends.server)))
    receiving.start()
    arrived(receive_all(ends.client), down)
    receiving.join()
    arrived(at_server[0], up)
    for sending in sendings:
        sending.finish()


def arrived(got: Received, data: bytes) -> None:
    equal("what arrives", (got.size, got.sha256, got.ending), (len(data), sha256(data), "FIN"))


@row("9b", "one byte at a time, as one types", setup=narrow)
def keystrokes(bench: Bench) -> None:
    server = TcpServer(bench.lab.server, "echo")
    bench.undo(server.process.stop)
    times: dict[Via, list[float]] = {"guest": [], "lan": []}
    clients = {via: bench.dial(server.port, via) for via in times}
    for key in payload(KEYS, 1):
        for via, client in clients.items():
            began = time.perf_counter()
            client.send(bytes((key,)))
            equal("the echo", client.recv(2), bytes((key,)))
            times[via].append((time.perf_counter() - began) * 1000)
    bench.bonded()
    for what, of in (("median", statistics.median), ("95th percentile", percentile_95)):
        added = of(times["lan"]) - of(times["guest"])
        expect(added < KEY_DELAY, f"{added:.2f} ms are added to a keystroke ({what})")


def percentile_95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


@row("9c", "1 GiB down, and up", setup=direct, slow=True)
def gibibyte(bench: Bench) -> None:
    ends = opened(bench)
    for source, sink in ((ends.server, ends.client), (ends.client, ends.server)):
        sent = hashlib.sha256()

        def send(source: socket.socket = source, sent: "hashlib._Hash" = sent) -> None:
            blocks = random.Random(1)
            for _ in range(GIBIBYTE // CHUNK):
                block = blocks.randbytes(CHUNK)
                sent.update(block)
                source.sendall(block)
            source.shutdown(socket.SHUT_WR)

        sending = Sending(source, b"", send)
        got = receive_all(sink)
        sending.finish()
        equal("what arrives", (got.size, got.sha256, got.ending), (GIBIBYTE, sent.hexdigest(), "FIN"))


@row("9f", "urgent data arrives, in line")
def urgent(bench: Bench) -> None:
    """Before the relay splices and after; a TCP that takes it out of line would lose a byte or stop there."""
    ends = opened(bench)
    for seed, before in enumerate((500, 200_000, 10_000)):
        for source, sink in ((ends.client, ends.server), (ends.server, ends.client)):
            data = payload(before + 2001, seed)
            source.sendall(data[:before])
            source.send(data[before : before + 1001], socket.MSG_OOB)
            source.sendall(data[before + 1001 :])
            expect(receive(sink, len(data)) == data, "bytes arrive changed")
