# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on what ends may say beyond plain TCP and Multipath TCP: Fast Open, ECN, MD5, options of their own."""

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

from common import packet
from lab.fidelity.bench import Bench, Ends, Via, equal, expect, payload, receive
from lab.fidelity.matrix import Skip, row
from lab.fidelity.native import accept, bonds, carry, connect, listen, sock
from lab.rewriter import Rewriter

MSG_FASTOPEN = 0x20000000
TCP_FASTOPEN = (socket.IPPROTO_TCP, 23, 64)  # on a listener; the value is how many may be pending
TCP_MD5SIG = 14
TCPI_OPT_ECN, TCPI_OPT_SYN_DATA = 8, 32  # linux/tcp.h, the octet tcpi_options


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
