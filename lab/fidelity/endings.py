# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on how connections end: what one end says last, the other hears, in time and in kind."""

import contextlib
import errno
import select
import socket
import time
from collections.abc import Callable

from lab.fidelity.bench import BLOCK, Bench, Ends, Sending, Via, equal, exchange, expect, payload, receive_all, sha256
from lab.fidelity.matrix import row

SLACK = 0.050  # seconds
QUEUE = 0.150  # seconds for which bytes may wait in an access before those that say the end


def opened(bench: Bench, via: Via = "lan") -> Ends:
    """A connection that has carried some bytes each way; bonded, unless it is to be the reference."""
    ends = bench.connect(via)
    exchange(ends)
    if via == "lan":
        bench.bonded(ends)
    return ends


def carries(source: socket.socket, sink: socket.socket, size: int, seed: int = 5) -> None:
    """So much, then FIN; the sink gets exactly that."""
    data = payload(size, seed)

    def end() -> None:
        source.shutdown(socket.SHUT_WR)

    sending = Sending(source, data, end)
    got = receive_all(sink)
    sending.finish()
    equal("what arrives", (got.size, got.sha256, got.ending), (len(data), sha256(data), "FIN"))


def ends_in_order(ends: Ends) -> None:
    """Both have heard all that the other had to say: closing tells nothing new."""
    for end in (ends.client, ends.server):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
        end.close()


@row("8a", "half-close by the client, data after it")
def client_half_closes(bench: Bench) -> None:
    ends = opened(bench)
    carries(ends.client, ends.server, 0)
    carries(ends.server, ends.client, 300_000)
    ends_in_order(ends)


@row("8b", "half-close by the server, data after it")
def server_half_closes(bench: Bench) -> None:
    ends = opened(bench)
    carries(ends.server, ends.client, 0)
    carries(ends.client, ends.server, 300_000)
    ends_in_order(ends)


@row("8c", "both ends close at the same time")
def both_close(bench: Bench) -> None:
    for size in (0, 100_000):
        ends = opened(bench)
        up, down = payload(size, 1), payload(size, 2)
        sendings = [
            Sending(sock, data, lambda sock=sock: sock.shutdown(socket.SHUT_WR))  # type: ignore[misc]
            for sock, data in ((ends.client, up), (ends.server, down))
        ]
        for sock, data in ((ends.server, up), (ends.client, down)):
            got = receive_all(sock)
            equal("what arrives", (got.size, got.sha256, got.ending), (size, sha256(data), "FIN"))
        for sending in sendings:
            sending.finish()
        ends_in_order(ends)


@row("8d", "data and FIN in one segment, and data, FIN and close at once")
def fin_with_data(bench: Bench) -> None:
    data = payload(900, 3)
    for source, sink in (("client", "server"), ("server", "client")):
        for closes in (False, True):
            ends = opened(bench)
            sender, receiver = getattr(ends, source), getattr(ends, sink)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
            sender.send(data, socket.MSG_MORE)  # waits for more, and the FIN finds it waiting
            sender.close() if closes else sender.shutdown(socket.SHUT_WR)
            got = receive_all(receiver)
            equal("what arrives", (got.size, got.sha256, got.ending), (len(data), sha256(data), "FIN"))
            if not closes:
                carries(receiver, sender, 5000)


@row("8e", "connections without a byte")
def no_byte(bench: Bench) -> None:
    for first in ("client", "server"):
        ends = bench.connect()
        one = getattr(ends, first)
        other = ends.server if one is ends.client else ends.client
        one.shutdown(socket.SHUT_WR)
        for sock in (other, one):
            got = receive_all(sock)
            equal("what arrives", (got.size, got.ending), (0, "FIN"))
            if sock is other:
                other.shutdown(socket.SHUT_WR)
        ends_in_order(ends)


@row("8f", "the client ends before the server has accepted")
def before_accept(bench: Bench) -> None:
    data = payload(3000, 4)
    for via in ("guest", "lan"):
        for said, ending in ((b"", "FIN"), (data, "FIN"), (b"", "RST"), (data, "RST")):
            listener = bench.listen()
            client = bench.dial(listener.getsockname()[1], via)
            client.sendall(said)
            if ending == "FIN":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
            client.close()
            time.sleep(0.080)  # until it is at the server, whichever way
            server = listener.accept()[0]
            bench.undo(server.close)
            server.settimeout(1.0)
            got = receive_all(server)
            equal(f"by way of {via}, what the server gets", (got.size, got.ending), (len(said), ending))


Prepare = Callable[[Bench, Ends], None]


def nothing(_bench: Bench, _ends: Ends) -> None:
    """Idle, with nothing on its way."""


def half_closed(who: str) -> Prepare:
    def prepare(_bench: Bench, ends: Ends) -> None:
        one, other = (ends.client, ends.server) if who == "client" else (ends.server, ends.client)
        carries(one, other, 1000)

    return prepare


def bulk(source: str) -> Prepare:
    """In full flow from that end, and the other end reads."""

    def prepare(bench: Bench, ends: Ends) -> None:
        one, other = (ends.client, ends.server) if source == "client" else (ends.server, ends.client)
        patience, block = one.gettimeout(), bytes(BLOCK)
        one.setblocking(False)
        for _ in range(10):
            with contextlib.suppress(BlockingIOError):
                while True:
                    one.send(block)
            expect(other.recv(BLOCK), "FIN")
        one.settimeout(patience)

    return prepare


def clogged(source: str) -> Prepare:
    """That end has sent all that it could, and the other end reads nothing."""

    def prepare(bench: Bench, ends: Ends) -> None:
        one = ends.client if source == "client" else ends.server
        fill(one)

    return prepare


def fill(sock: socket.socket, still: float = 0.2) -> int:
    """Sends until nothing more has been taken for a time; how much was."""
    patience, sent, block = sock.gettimeout(), 0, bytes(BLOCK)
    sock.settimeout(still)
    with contextlib.suppress(TimeoutError):
        while True:
            sent += sock.send(block)
    sock.settimeout(patience)
    return sent


MOMENTS: dict[str, tuple[Prepare, float]] = {
    "idle": (nothing, 0.0),
    "after the client's half-close": (half_closed("client"), 0.0),
    "after the server's half-close": (half_closed("server"), 0.0),
    "in the middle of an upload": (bulk("client"), QUEUE),
    "in the middle of a download": (bulk("server"), QUEUE),
}

CLOGGED: dict[str, tuple[Prepare, float]] = {
    "while nobody reads the upload": (clogged("client"), 0.0),
    "while nobody reads the download": (clogged("server"), 0.0),
}


def resets(bench: Bench, who: str, moments: dict[str, tuple[Prepare, float]]) -> None:
    """The other end hears RST one way later at most; one round trip is allowed."""
    round_trip = 2 * bench.lab.xdsl.profile.delay
    for moment, (prepare, wait) in moments.items():
        ends = opened(bench)
        prepare(bench, ends)
        one, other = (ends.client, ends.server) if who == "client" else (ends.server, ends.client)
        began = time.monotonic()
        one.close()
        ending = ended(other)
        took = time.monotonic() - began
        equal(f"{moment}: the ending", ending, "RST")
        allowed = round_trip + wait + SLACK
        expect(took <= allowed, f"{moment}: RST after {took * 1000:.0f} ms instead of {allowed * 1000:.0f}")


def ended(sock: socket.socket) -> str:
    """'RST' or what else has come of the connection, without reading what is in the way."""
    with contextlib.closing(select.epoll(1)) as watch:
        watch.register(sock, select.EPOLLERR)
        watch.poll(5.0)
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error in (errno.ECONNRESET, errno.EPIPE):  # EPIPE: after the other end's FIN
        return "RST"
    return errno.errorcode[error] if error else "no error"


@row("8g", "the client resets, at one moment or another")
def client_resets(bench: Bench) -> None:
    resets(bench, "client", MOMENTS)


@row("8h", "the server resets, at one moment or another")
def server_resets(bench: Bench) -> None:
    resets(bench, "server", MOMENTS)


@row("8i", "the client resets, with bytes under way that nobody reads")
def client_resets_clogged(bench: Bench) -> None:
    resets(bench, "client", CLOGGED)


@row("8j", "the server resets, with bytes under way that nobody reads")
def server_resets_clogged(bench: Bench) -> None:
    resets(bench, "server", CLOGGED)


@row("8k", "an answer, and then RST since the request was not read")
def answer_then_reset(bench: Bench) -> None:
    """As a web server does with an upload that it refuses: the answer arrives all the same."""
    answer = payload(500, 6)
    for via in ("guest", "lan"):
        ends = opened(bench, via)
        ends.client.sendall(payload(20_000, 7))
        time.sleep(0.2)
        ends.server.sendall(answer)
        ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
        ends.server.close()
        got = receive_all(ends.client)
        equal(f"by way of {via}, what the client gets", (got.size, got.ending), (len(answer), "RST"))


@row("8l", "what is said before RST arrives before it")
def said_before_reset(bench: Bench) -> None:
    data = payload(5000, 8)
    for via in ("guest", "lan"):
        for source, sink in (("client", "server"), ("server", "client")):
            ends = opened(bench, via)
            getattr(ends, source).sendall(data)
            getattr(ends, source).close()
            got = receive_all(getattr(ends, sink))
            equal(f"by way of {via}, what the {sink} gets", (got.size, got.ending), (len(data), "RST"))


@row("8m", "keepalive probes are answered")
def keepalive(bench: Bench) -> None:
    """Without an answer the connection would end after 2 s."""
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1),
    )
    ends = opened(bench)
    for sock in (ends.client, ends.server):
        for option in options:
            sock.setsockopt(*option)
    time.sleep(2.5)
    exchange(ends, seed=9)
