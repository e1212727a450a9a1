# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on ends that speak Multipath TCP themselves."""

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator

from common import packet, transparent
from common.mptcp_option import MpCapable
from common.packet import OPTION_MPTCP, Segment
from lab.bonded import Pair
from lab.capture import Capture
from lab.fidelity.bench import Bench, Ends, Sending, Via, equal, exchange, expect, payload, receive_all, sha256
from lab.fidelity.matrix import row
from lab.fidelity.policed import Policed
from lab.node import Node
from lab.rewriter import Rewriter

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
