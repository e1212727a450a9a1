# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on what is not bonded: QUIC where it is not wanted, and everything while the primary link is down."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

from lab.access import Kind
from lab.bonded import Pair
from lab.fidelity.bench import PATIENCE, Bench, equal, exchange, expect
from lab.fidelity.matrix import row
from lab.fidelity.wire import checksum
from lab.topology import subscriber_route

QUIC = 443
AT_ONCE = 0.5  # seconds
PING = b"are you there?"
TRY = 0.2  # seconds between tries of a question


class Echo:
    """A context manager: answers datagrams on the server with the address that they come from, as it sees it."""

    def __init__(self, bench: Bench, port: int = 0) -> None:
        with bench.lab.server.entered():
            self._socket = udp(bench)
        self._socket.settimeout(TRY)
        self._socket.bind((bench.server_address, port))
        self.address = self._socket.getsockname()[:2]
        self._over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Echo":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join(PATIENCE)
        self._socket.close()

    def _serve(self) -> None:
        while not self._over:
            with contextlib.suppress(OSError):
                _, sender = self._socket.recvfrom(64)
                self._socket.sendto(sender[0].encode(), sender)


def udp(bench: Bench) -> socket.socket:
    """In the namespace that the caller is in."""
    return socket.socket(socket.AF_INET6 if bench.family == 6 else socket.AF_INET, socket.SOCK_DGRAM)


def asking(bench: Bench, echo: Echo, via: str = "lan") -> socket.socket:
    """A client's socket that is connected to the echo."""
    with bench.lab.client.entered():
        sock = udp(bench)
    bench.undo(sock.close)
    sock.bind((bench.lab.client.address(via, bench.family), 0))
    sock.connect(echo.address)
    sock.settimeout(TRY)
    return sock


def resolver(bench: Bench, echo: Echo, device: str, by_address: bool) -> socket.socket:
    """A socket of the router itself for one link, as a program has that asks each provider's resolver over its own."""
    with bench.lab.cpe.entered():
        sock = udp(bench)
    bench.undo(sock.close)
    if by_address:
        sock.bind((bench.lab.cpe.address(device, bench.family), 0))
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    sock.connect(echo.address)
    sock.settimeout(TRY)
    return sock


def over_each(bench: Bench, echo: Echo, *devices: str) -> None:
    """Expects that the router reaches the server over each of these links from its address there."""
    for device in devices:
        for by_address in (True, False):
            seen = answer(resolver(bench, echo, device, by_address))
            equal(f"the router over {device}", seen, bench.lab.cpe.address(device, bench.family))


def answer(sock: socket.socket, patience: float = PATIENCE) -> str:
    """Who the server takes us for; asks again and again. Raises TimeoutError, or at once if the socket is refused."""
    deadline = time.monotonic() + patience
    while True:
        try:
            sock.send(b"who am I?")
            return sock.recv(64).decode()
        except OSError as error:
            if isinstance(error, ConnectionRefusedError) or time.monotonic() > deadline:
                raise


def ping(bench: Bench) -> bytes:
    """The answer of the server to an echo request (RFC 792; RFC 4443, section 4.1), less what is not ours."""
    asks, answers = (8, 0) if bench.family == 4 else (128, 129)
    protocol = socket.IPPROTO_ICMP if bench.family == 4 else socket.IPPROTO_ICMPV6
    head = struct.pack("!BBHHH", asks, 0, 0, 4242, 1)
    with bench.lab.client.entered():
        sock = socket.socket(socket.AF_INET6 if bench.family == 6 else socket.AF_INET, socket.SOCK_RAW, protocol)
    with sock:
        sock.settimeout(PATIENCE)
        sock.bind((bench.lab.client.address("lan", bench.family), 0))
        checked = checksum(head + PING) if bench.family == 4 else b"\0\0"  # the kernel writes that of IPv6
        sock.sendto(head[:2] + checked + head[4:] + PING, (bench.server_address, 0))
        while True:
            packet = sock.recv(256)[20 if bench.family == 4 else 0 :]
            if packet[0] == answers:
                return packet[8:]


def refused_after(sock: socket.socket) -> float | None:
    """Seconds until the socket hears that nobody is there; None if it gets an answer, or nothing."""
    began = time.monotonic()
    try:
        answer(sock, AT_ONCE)
    except ConnectionRefusedError:
        return time.monotonic() - began
    except OSError:
        pass
    return None


def without_quic() -> Pair:
    return Pair(Kind.DIRECT, cpe_options={"quic": "fallback"})


@row("6n", "quic 'fallback': who sends to UDP port 443 hears at once that it is closed", setup=without_quic, slow=True)
def quic_is_refused(bench: Bench) -> None:
    client = bench.lab.client.address("lan", bench.family)
    configured = bench.cpe.config_file.read_text()
    with Echo(bench, QUIC) as echo, Echo(bench) as other:
        for _ in range(2):
            after = refused_after(asking(bench, echo))
            expect(after is not None and after < AT_ONCE, f"it is refused after {after} s")
        for who in (asking(bench, echo, "guest"), asking(bench, other)):  # another LAN, another port
            answer(who)
        ends = bench.connect(listener=bench.listen(QUIC))
        exchange(ends)
        bench.bonded(ends)
        try:
            change(bench, configured.replace("'fallback'", "'pass'"))
            going_on = asking(bench, echo)
            answer(going_on)
        finally:
            change(bench, configured)
        expect(refused_after(asking(bench, echo)) is not None, f"{client} is not refused any more")
        answer(going_on)  # no client would believe an error now


def change(bench: Bench, configuration: str) -> None:
    bench.cpe.configure(configuration)
    equal("what the reload says", bench.cpe.control("reload"), {"changed": ["option quic"], "errors": []})


def returning() -> Pair:
    return Pair(Kind.DIRECT, cpe_options={"hold": 1})


@row("11n", "what is not bonded, while the primary link is down and when it is back", setup=returning, slow=True)
def primary_down(bench: Bench) -> None:
    """UDP, ICMP and TCP begin over LTE then, and go on there afterwards: nobody would know them by another address."""
    lab = bench.lab
    lan = lab.client.address("lan", bench.family)
    as_seen = {access.name: lab.cpe.address(access.name, 4) if bench.family == 4 else lan for access in lab.accesses}
    before = rules(bench)
    with Echo(bench) as echo:
        equal("who the server sees", answer(asking(bench, echo)), as_seen["xdsl"])
        over_each(bench, echo, "xdsl", "lte")
        with down(bench):
            old = asking(bench, echo)
            equal("who the server sees while the primary link is down", answer(old), as_seen["lte"])
            over_each(bench, echo, "lte")
            equal("the answer to a ping", ping(bench), PING)
            with bench.counts(bench.cpe, "passed: primary link is down"):
                ends = bench.connect()
            exchange(ends)
            equal("the client of the connection", ends.server.getpeername()[0], as_seen["lte"])
        bench.until(lambda: rules(bench) == before, lambda: f"the rules stay as they are: {rules(bench)}")
        over_each(bench, echo, "xdsl", "lte")
        for size in (1000, 50_000):
            exchange(ends, size)
        equal("who the server sees when the link is back", answer(old), as_seen["lte"])
        equal("who else it sees then", answer(asking(bench, echo)), as_seen["xdsl"])
    now = bench.connect()
    exchange(now)
    bench.bonded(now)


@contextlib.contextmanager
def down(bench: Bench) -> Iterator[None]:
    """The primary link is; the gateway knows the subscriber's IPv6 network by way of the other one meanwhile."""
    lab = bench.lab
    lab.xdsl.cut()
    lab.hag.configure([subscriber_route(lab.cpe, "lte")])
    try:
        bench.until(lambda: not bench.cpe.status()["links"][0]["up"], lambda: "the router does not notice")
        yield
    finally:
        lab.xdsl.restore()
        lab.hag.configure([subscriber_route(lab.cpe, "xdsl")])


def rules(bench: Bench) -> list[str]:
    """The router's, in any order: those of one priority are in the order in which they came."""
    return sorted(
        line for family in "46" for line in bench.lab.cpe.run(["ip", f"-{family}", "rule"]).stdout.splitlines()
    )
