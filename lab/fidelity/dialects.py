# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on what ends may say beyond plain TCP: Multipath TCP, Fast Open, ECN, MD5, options of their own."""

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator

from common import packet, transparent
from common.mptcp_option import MpCapable
from common.packet import OPTION_MPTCP, Segment
from lab.bonded import Pair
from lab.capture import Capture
from lab.fidelity.bench import Bench, Ends, Sending, Via, equal, exchange, expect, payload, receive, receive_all, sha256
from lab.fidelity.matrix import Skip, row
from lab.fidelity.policed import Policed
from lab.node import Node
from lab.rewriter import Rewriter

MSG_FASTOPEN = 0x20000000
TCP_FASTOPEN = (socket.IPPROTO_TCP, 23, 64)  # on a listener; the value is how many may be pending
TCP_MD5SIG = 14
TCPI_OPT_ECN, TCPI_OPT_SYN_DATA = 8, 32  # linux/tcp.h, the octet tcpi_options
BUNDLE = 70_000  # bytes each way: more than join_after
KEY = bytes(range(8))


def native_ends_here() -> Pair:
    return Pair(cpe_options={"native_mptcp": "pass"}, hag_options={"native_mptcp": "bond"})


# Both ends of connections of whatever protocol


def sock(bench: Bench, node: Node, mptcp: bool) -> socket.socket:
    with node.entered():
        made = socket.socket(
            socket.AF_INET6 if bench.family == 6 else socket.AF_INET,
            socket.SOCK_STREAM,
            transparent.MPTCP if mptcp else transparent.TCP,
        )
    bench.undo(made.close)
    made.settimeout(10.0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def listen(bench: Bench, mptcp: bool = False, *options: tuple[int, int, int | bytes]) -> socket.socket:
    listener = sock(bench, bench.lab.server, mptcp)
    for option in options:
        listener.setsockopt(*option)
    listener.bind((bench.server_address, 0))
    listener.listen(16)
    return listener


def connect(bench: Bench, listener: socket.socket, via: Via, mptcp: bool) -> Ends:
    client = sock(bench, bench.lab.client, mptcp)
    client.bind((bench.lab.client.address(via, bench.family), 0))
    client.connect(listener.getsockname()[:2])
    return Ends(client, accept(bench, listener))


def accept(bench: Bench, listener: socket.socket) -> socket.socket:
    server = listener.accept()[0]
    bench.undo(server.close)
    server.settimeout(10.0)
    return server


def carry(ends: Ends, seed: int = 1) -> None:
    """Much both ways at once, each until its FIN: every byte must arrive, and the FIN."""
    sendings = [
        Sending(sock, payload(BUNDLE, seed + place), lambda sock=sock: sock.shutdown(socket.SHUT_WR))  # type: ignore[misc]
        for place, sock in enumerate((ends.client, ends.server))
    ]
    for place, sink in enumerate((ends.server, ends.client)):
        got = receive_all(sink)
        wanted = (BUNDLE, sha256(payload(BUNDLE, seed + place)), "FIN")
        equal(f"what {('the server', 'the client')[place]} receives", (got.size, got.sha256, got.ending), wanted)
    for sending in sendings:
        sending.finish()


def speaks_mptcp(sock: socket.socket) -> bool:
    """Whether both ends do: MPTCP_INFO is refused after a fallback to TCP."""
    try:
        sock.getsockopt(284, 1, 64)  # SOL_MPTCP, MPTCP_INFO
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOPROTOOPT):
            return False
        raise
    return True


@contextlib.contextmanager
def bonds(bench: Bench, connections: int = 1, plain: int = 0) -> Iterator[None]:
    """Expects that both boxes bond so many connections inside, and that no others pass or open."""
    with (
        bench.counts(bench.cpe, "opened: bonded", connections),
        bench.counts(bench.hag, "opened: bonded", connections),
        bench.counts(bench.cpe, "opened: plain TCP", plain),
        bench.counts(bench.hag, "opened: plain TCP", plain),
    ):
        yield


def syns(bench: Bench, node: Node, device: str, work: Callable[[], object]) -> list[Segment]:
    """The SYNs that pass a device while that is done."""
    capture = Capture(node, device)
    work()
    return [it.segment for it in capture.stop() if it.segment.is_syn or it.segment.is_syn_ack]


# Clients that speak Multipath TCP


@row("5a", "a client that speaks Multipath TCP is bonded")
def native_client_bonded(bench: Bench) -> None:
    for server_speaks in (False, True):
        with bonds(bench):
            ends = connect(bench, listen(bench, server_speaks), "lan", mptcp=True)
            expect(not speaks_mptcp(ends.client), "the client has Multipath TCP with a router that wants to end it")
            carry(ends)


@row("5b", "a server that speaks Multipath TCP is bonded with")
def native_server(bench: Bench) -> None:
    with bonds(bench):
        ends = connect(bench, listen(bench, mptcp=True), "lan", mptcp=False)
        carry(ends)


@row("5c", "native_mptcp 'pass': end to end where the server speaks it", setup=Policed)
def native_end_to_end(bench: Bench) -> None:
    with (
        bonds(bench, 0),
        bench.counts(bench.cpe, "passed: the client's own Multipath TCP"),
        bench.counts(bench.hag, "passed: not a router's Multipath TCP"),
    ):
        ends = connect(bench, listen(bench, mptcp=True), "lan", mptcp=True)
        expect(speaks_mptcp(ends.client) and speaks_mptcp(ends.server), "they fall back to TCP")
        carry(ends)
        expect(speaks_mptcp(ends.client), "the client falls back to TCP")


@row("5d", "native_mptcp 'pass': plain TCP where the server does not", setup=Policed)
def native_falls_back(bench: Bench) -> None:
    with (
        bonds(bench, 0),
        bench.counts(bench.cpe, "passed: the client's own Multipath TCP"),
        bench.counts(bench.hag, "passed: not a router's Multipath TCP"),
    ):
        ends = connect(bench, listen(bench), "lan", mptcp=True)
        expect(not speaks_mptcp(ends.client), "the client has Multipath TCP with a server that has not")
        carry(ends)
    with bonds(bench):  # others are bonded as ever
        carry(bench.connect())


@row("5e", "native_mptcp 'pass': subflows that the client adds reach the server", setup=Policed)
def native_joins(bench: Bench) -> None:
    client = bench.lab.client
    other = client.address("guest", bench.family)
    limits = client.run(["ip", "mptcp", "limits"]).stdout.split()
    client.run(["ip", "mptcp", "limits", "set", "subflows", "2"])
    bench.undo(lambda: client.run(["ip", "mptcp", "limits", "set", *limits[:4]]))
    client.run(["ip", "mptcp", "endpoint", "add", other, "dev", "guest", "subflow"])
    bench.undo(lambda: client.run(["ip", "mptcp", "endpoint", "flush"]))
    server = bench.lab.server
    before = server.run(["ip", "mptcp", "limits"]).stdout.split()
    server.run(["ip", "mptcp", "limits", "set", "subflows", "2"])
    bench.undo(lambda: server.run(["ip", "mptcp", "limits", "set", *before[:4]]))
    ends = connect(bench, listen(bench, mptcp=True), "lan", mptcp=True)
    ends.client.sendall(b"x")
    equal("what the server gets", ends.server.recv(1), b"x")
    bench.until(lambda: subflows(ends.server) == 1, lambda: f"the server has {subflows(ends.server)} more subflows")
    carry(ends)


def subflows(sock: socket.socket) -> int:
    """Subflows besides the first one: octet 0 of struct mptcp_info."""
    return sock.getsockopt(284, 1, 64)[0]


@row("5f", "a client that speaks Multipath TCP on a LAN that is not bonded")
def native_guest(bench: Bench) -> None:
    with bonds(bench, 0), bench.counts(bench.hag, "passed: not a router's Multipath TCP"):
        ends = connect(bench, listen(bench, mptcp=True), "guest", mptcp=True)
        expect(speaks_mptcp(ends.client) and speaks_mptcp(ends.server), "they fall back to TCP")
        carry(ends)


@row("5g", "Multipath TCP from end to end outlives a restart of the HAG's daemon", setup=Policed, slow=True)
def native_outlives_restart(bench: Bench) -> None:
    ends = connect(bench, listen(bench, mptcp=True), "lan", mptcp=True)
    bench.hag.restart()
    until = time.monotonic() + 3.5  # what is unknown to the HAG's table is reset after 3 s
    while time.monotonic() < until:
        ends.client.sendall(b"x")
        equal("what the server gets", ends.server.recv(1), b"x")
        time.sleep(0.1)
    expect(speaks_mptcp(ends.client), "the client falls back to TCP")
    carry(ends)


SILENT = """\
table inet lab_silent {
  chain output {
    type filter hook output priority raw
    tcp flags & rst != 0 drop
  }
}
"""


@row("5p", "a subflow of which the HAG knows nothing any more is reset", slow=True)
def hag_forgets(bench: Bench) -> None:
    ends = bench.connect()
    exchange(ends)
    bench.bonded(ends)
    bench.lab.hag.run(["nft", "-f", "-"], text=SILENT)  # as if the power had failed
    bench.hag.kill_all()
    bench.lab.hag.run(["nft", "delete", "table", "inet", "lab_silent"])
    bench.hag.start()
    capture = Capture(bench.lab.cpe, "xdsl")
    ends.client.sendall(b"x")  # the CPE's kernel repeats it after 0.2, 0.4, 0.8, ... s
    time.sleep(5.0)
    seen = [it.segment for it in capture.stop()]
    resets = [segment for segment in seen if segment.flags & packet.RST]
    # It then tries others, to where the HAG takes them, and is refused there.
    tried = [bench.lab.hag.address("lte", family) for family in (4, 6)]
    ends_it = [segment.source for segment in resets if segment.source not in tried]
    equal("what ends the subflow", ends_it, [bench.server_address])
    expect(len(seen) > 2, "it is reset before it can be told from one that is not ours")


@row("5h", "native_mptcp 'bond' on the HAG: ends there what the CPE lets pass", setup=native_ends_here, slow=True)
def native_ends_at_hag(bench: Bench) -> None:
    with (
        bench.counts(bench.cpe, "passed: the client's own Multipath TCP"),
        bench.counts(bench.cpe, "opened: bonded", 0),
        bench.counts(bench.hag, "opened: bonded"),
    ):
        ends = connect(bench, listen(bench), "lan", mptcp=True)
        expect(speaks_mptcp(ends.client), "the client has no Multipath TCP with the HAG")
        carry(ends)


@row("5i", "Multipath TCP version 0 from a client")
def version_0_client(bench: Bench) -> None:
    with Rewriter(bench.lab.client, version_0), bonds(bench):
        carry(connect(bench, listen(bench, mptcp=True), "lan", mptcp=False))


@row("5j", "Multipath TCP version 0 past CPE and HAG", setup=Policed)
def version_0_passes(bench: Bench) -> None:
    with (
        Rewriter(bench.lab.client, version_0),
        bonds(bench, 0),
        bench.counts(bench.cpe, "passed: the client's own Multipath TCP"),
        bench.counts(bench.hag, "passed: another version of Multipath TCP"),
    ):
        listener = listen(bench)
        seen = syns(bench, bench.lab.server, "core", lambda: carry(connect(bench, listener, "lan", mptcp=False)))
    equal("MP_CAPABLE of the SYN", seen[0].mp_capable, MpCapable(0, 0x81, int.from_bytes(KEY, "big"), None))


def version_0(syn: bytes) -> bytes:
    """With the MP_CAPABLE of RFC 6824: a key, and the flags A and H."""
    return packet.insert_option(syn, OPTION_MPTCP, bytes((0x00, 0x81)) + KEY)


# Options of all kinds


@row("5k", "options that nobody knows")
def unknown_options(bench: Bench) -> None:
    # experiments (RFC 4727, RFC 6994), user timeout (RFC 5482), one that is nobody's, a private one of Multipath TCP
    options = ((253, b"\xf9\x89ab"), (28, b"\x80\x1e"), (76, b"\1"), (30, b"\xf0\0"))

    def add(syn: bytes) -> bytes:
        for kind, value in options:
            syn = packet.insert_option(syn, kind, value)
        return syn

    with Rewriter(bench.lab.client, add) as rewriter, bonds(bench):
        carry(connect(bench, listen(bench), "lan", mptcp=False))
    sent = {(option.kind, option.data) for option in packet.parse(rewriter.sent[0]).options}
    expect(sent >= set(options), f"the client's SYN has the options {sent}")


@row("5l", "ECN")
def ecn(bench: Bench) -> None:
    with tcp_settings(bench, "tcp_ecn", 1):
        listener = listen(bench)
        options = {}
        for via in VIAS:
            with bonds(bench, via == "lan"):
                ends = connect(bench, listener, via, mptcp=False)
                options[via] = tcp_options(ends.client) & TCPI_OPT_ECN
                carry(ends)
        expect(options["guest"], "the client has no ECN without the pair")
        expect(options["lan"], "the client has no ECN")


VIAS: tuple[Via, ...] = ("guest", "lan")


@row("5m", "accurate ECN")
def accurate_ecn(bench: Bench) -> None:
    try:
        with tcp_settings(bench, "tcp_ecn", 3), bonds(bench):
            carry(connect(bench, listen(bench), "lan", mptcp=False))
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise Skip("the kernel has no accurate ECN (net.ipv4.tcp_ecn 3)") from None
        raise


@contextlib.contextmanager
def tcp_settings(bench: Bench, name: str, value: int) -> Iterator[None]:
    """A sysctl net.ipv4.NAME on client and server."""
    nodes = (bench.lab.client, bench.lab.server)
    before = [node.run(["sysctl", "-n", f"net.ipv4.{name}"]).stdout.strip() for node in nodes]
    try:
        for node in nodes:
            node.sysctl({f"ipv4/{name}": value})
        yield
    finally:
        for node, old in zip(nodes, before, strict=True):
            node.sysctl({f"ipv4/{name}": old})


def tcp_options(sock: socket.socket) -> int:
    """tcpi_options of struct tcp_info."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5]


# Fast Open


@row("5n", "Fast Open: asking for a cookie, and data in the SYN with one")
def fast_open(bench: Bench) -> None:
    with tcp_settings(bench, "tcp_fastopen", 3):
        listener = listen(bench, False, TCP_FASTOPEN)
        bench.lab.client.run(["ip", "tcp_metrics", "flush"])
        with bonds(bench):
            fast(bench, listener, "lan")  # no cookie yet
        equal("what is in the SYN without a cookie", fast(bench, listener, "guest"), 0)  # gets one
        expect(fast(bench, listener, "guest"), "the cookie is worth nothing without the pair")
        with bonds(bench):
            fast(bench, listener, "lan")


def fast(bench: Bench, listener: socket.socket, via: Via) -> int:
    """A connection whose first bytes are given with the SYN; other than 0 if they came to the server with it."""
    client = sock(bench, bench.lab.client, mptcp=False)
    client.bind((bench.lab.client.address(via, bench.family), 0))
    client.settimeout(None)  # a socket that does not wait has its bytes sent only where there is a cookie
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 10, 0))
    first = payload(1000, 9)
    equal("bytes that the kernel takes", client.sendto(first, MSG_FASTOPEN, listener.getsockname()[:2]), len(first))
    client.settimeout(10.0)
    server = accept(bench, listener)
    expect(receive(server, len(first)) == first, "the first bytes arrive changed")
    with_syn = tcp_options(client) & TCPI_OPT_SYN_DATA
    carry(Ends(client, server))
    return with_syn


# Signatures


@row("5o", "TCP-MD5 between client and server")
def md5(bench: Bench) -> None:
    plain = signed(bench, "guest")
    equal(
        "what becomes of it without the pair", plain, "carried" if bench.family == 6 else "no answer"
    )  # NAT breaks it
    before = bench.counter(bench.cpe, "passed: signed segment")
    with bonds(bench, 0):
        equal("what becomes of it", signed(bench, "lan"), plain)
    expect(bench.counter(bench.cpe, "passed: signed segment") > before, "hybrid-cpe does not count it")


def signed(bench: Bench, via: Via) -> str:
    """What becomes of a connection whose ends sign all segments."""
    address = bench.lab.client.address(via, bench.family)
    listener = listen(bench, False, md5_key(address))
    client = sock(bench, bench.lab.client, mptcp=False)
    client.setsockopt(*md5_key(bench.server_address))
    client.bind((address, 0))
    client.settimeout(1.2)  # the second SYN is sent after 1 s
    try:
        client.connect(listener.getsockname()[:2])
    except TimeoutError:
        return "no answer"
    client.settimeout(10.0)
    carry(Ends(client, accept(bench, listener)))
    return "carried"


def md5_key(peer: str) -> tuple[int, int, bytes]:
    """TCP_MD5SIG with struct tcp_md5sig (linux/tcp.h)."""
    if ":" in peer:
        address = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, peer), 0)
    else:
        address = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(peer))
    return socket.IPPROTO_TCP, TCP_MD5SIG, struct.pack("=128sBBHi80s", address, 0, 0, 6, 0, b"secret")
