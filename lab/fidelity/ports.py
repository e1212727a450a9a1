# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on ports that a client uses again while the boxes have still to deliver what the last connection has sent.

Without the pair that does not happen: a host keeps the ports until its peer has everything.
"""

import contextlib
import socket
import threading
import time
from typing import Final

from lab.daemons import Daemon
from lab.fidelity.bench import (
    PATIENCE,
    Bench,
    Ends,
    Mismatch,
    direct,
    equal,
    exchange,
    expect,
    payload,
    receive_all,
    sha256,
)
from lab.fidelity.matrix import row

PORT: Final = 20400
SERVERS_BUFFER: Final = 64 * 1024
KERNELS: Final = 300_000  # bytes: more than the server takes in unread, less than the gateway's kernel does for it
BOTHS: Final = 1_500_000  # more than that, too
WAITS: Final = 0.5  # seconds: longer than it takes until a box has seen that the ports are not about to be free
SOON: Final = 0.6  # seconds
HELD: Final = "held: the last connection on these ports has not ended"


@row("3p", "a port is used again while the gateway has yet to deliver what was sent from there: it waits", setup=direct)
def delivered_first(bench: Bench) -> None:
    one_port(bench)
    listener = bench.listen(0, (socket.SOL_SOCKET, socket.SO_RCVBUF, SERVERS_BUFFER))
    ends = Connecting(bench, listener).finish()
    for size, left in ((KERNELS, []), (BOTHS, ["half-down"])):
        bench.bonded(ends)
        data = payload(size, size)
        sent_and_forgotten(bench, ends, data)
        equal(f"what the gateway has of {size} bytes", states(bench, bench.hag), left)
        with bench.counts(bench.hag, HELD):
            again = Connecting(bench, listener)
            time.sleep(WAITS)
        expect(not again.outcome, f"before the last byte is delivered, connecting ends with '{again.outcome}'")
        equal("what the gateway has now", states(bench, bench.hag), ["held", *left])
        got = receive_all(ends.server)
        equal("what the server gets", (got.size, got.sha256, got.ending), (len(data), sha256(data), "FIN"))
        began = time.monotonic()
        ends = again.finish()
        took = time.monotonic() - began
        expect(took < SOON, f"connecting then takes {took:.2f} s more")
    bench.bonded(ends)
    exchange(ends)


@row("3q", "a client gives up waiting for its ports", setup=direct, slow=True)
def given_up(bench: Bench) -> None:
    one_port(bench)
    listener = bench.listen(0, (socket.SOL_SOCKET, socket.SO_RCVBUF, SERVERS_BUFFER))
    ends = Connecting(bench, listener).finish()
    data = payload(KERNELS, 1)
    sent_and_forgotten(bench, ends, data)
    again = Connecting(bench, listener)
    bench.until(lambda: states(bench, bench.hag) == ["held"], lambda: f"the gateway has {states(bench, bench.hag)}")
    again.give_up()
    bench.until(lambda: not states(bench, bench.hag), lambda: "what is given up stays")
    equal("what the server gets", receive_all(ends.server).sha256, sha256(data))
    listener.settimeout(WAITS)
    with contextlib.suppress(TimeoutError):
        listener.accept()
        raise Mismatch("the server gets a connection that nobody wants")


def states(bench: Bench, daemon: Daemon) -> list[str]:
    return [flow["state"] for flow in bench.flows(daemon)]


def one_port(bench: Bench) -> None:
    """Over IPv4 the router chooses the port: it has one."""
    if bench.family == 4:
        before = bench.lab.cpe.run(["sysctl", "-n", "net.ipv4.ip_local_port_range"]).stdout
        bench.lab.cpe.sysctl({"ipv4/ip_local_port_range": f"{PORT} {PORT}"})
        bench.undo(lambda: bench.lab.cpe.sysctl({"ipv4/ip_local_port_range": before.strip()}))


def sent_and_forgotten(bench: Bench, ends: Ends, data: bytes) -> None:
    """Both ends say that they have said all, and for the client it is over, before the server has read most of it."""
    ends.server.shutdown(socket.SHUT_WR)
    equal("what the client receives", receive_all(ends.client).ending, "FIN")
    ends.client.sendall(data)
    ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
    ends.client.close()
    bench.until(lambda: not bench.flows(bench.cpe), lambda: f"the router has {bench.flows(bench.cpe)}")


class Connecting(threading.Thread):
    """A client that connects from `PORT`."""

    def __init__(self, bench: Bench, listener: socket.socket) -> None:
        super().__init__(daemon=True)
        self.outcome = ""
        self._bench = bench
        self._listener = listener
        self._client = bench.tcp(bench.lab.client, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
        self._client.bind((bench.lab.client.address("lan", bench.family), PORT))
        self.start()

    def run(self) -> None:
        try:
            self._client.connect(self._listener.getsockname()[:2])
            self.outcome = "success"
        except OSError as error:
            self.outcome = str(error)

    def finish(self) -> Ends:
        """Both ends, once it has succeeded."""
        self.join(PATIENCE)
        equal("what becomes of it", self.outcome, "success")
        server = self._listener.accept()[0]
        self._bench.undo(server.close)
        server.settimeout(PATIENCE)
        return Ends(self._client, server)

    def give_up(self) -> None:
        self._client.shutdown(socket.SHUT_RDWR)
        self.join(PATIENCE)
        self._client.close()
