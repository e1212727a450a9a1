# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on strangers who know how the boxes work: what they fill, forge and mark does others no harm."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Final

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from common import marks, packet
from common.mptcp_option import MP_CAPABLE_HMAC_SHA256
from lab.cramped import ROOM
from lab.fidelity.bench import Bench, direct, equal, exchange, expect
from lab.fidelity.internet import CLOSED_INSIDE, CLOSED_OUTSIDE, Inbound
from lab.fidelity.internet import connect as from_the_internet
from lab.fidelity.marks import foreign
from lab.fidelity.matrix import row
from lab.fidelity.opening import CLOSED
from lab.fidelity.policed import SECOND_SERVER, Policed
from lab.fidelity.policy import connected
from lab.fidelity.wire import Syn, Wire
from lab.node import Node

MANY: Final = 3 * ROOM
CAPABLE: Final = bytes((1, MP_CAPABLE_HMAC_SHA256)) + bytes(8)  # subtype 0, version 1, flags, a key
AT_REST: Final = 0.1  # seconds in which what a packet brings about has come about


# Full sets


def cramped() -> Inbound:
    return Inbound(starter=[sys.executable, "-m", "lab.cramped"])


def entries(node: Node, name: str) -> int:
    """How many entries one of our sets or maps has."""
    kind = "map" if name in ("port4", "mark4") else "set"
    listed = json.loads(node.run(["nft", "-j", "list", kind, "inet", "hybrid_access", name]).stdout)
    (found,) = [it[kind] for it in listed["nftables"] if kind in it]
    return len(found.get("elem", ()))


def full(bench: Bench, node: Node, *names: str) -> None:
    for name in names:
        bench.until(
            lambda name=name: entries(node, name) == ROOM,  # type: ignore[misc]
            lambda name=name: f"{name} of {node.label} has {entries(node, name)} entries",  # type: ignore[misc]
        )


def neighbours(bench: Bench, behind: str) -> list[str]:
    """Made-up addresses next to a node's."""
    if bench.family == 4:
        stem, _, _ = behind.rpartition(".")
        return [f"{stem}.{20 + number % 40}" for number in range(MANY)]
    stem, _, _ = behind.rpartition(":")
    return [f"{stem}:f{number:x}" for number in range(MANY)]


@row("14a", "made-up hosts of the LAN fill the sets of both boxes", setup=cramped, slow=True)
def filled_from_the_lan(bench: Bench) -> None:
    lab, version = bench.lab, bench.family
    ends = bench.connect()
    wire = Wire(bench, lab.client, "lan", lab.cpe)
    for number, source in enumerate(neighbours(bench, lab.client.address("lan", version))):
        wire.send(Syn(source, bench.server_address, CLOSED, 20000 + number, capable=False))
        wire.send(Syn(source, bench.server_address, CLOSED, 21000 + number, capable=False, signed=True))  # it passes
    full(bench, lab.cpe, f"asked{version}", f"passed{version}")
    full(bench, lab.hag, f"asked{version}")
    exchange(ends, 100_000)
    bench.bonded(ends)
    work_as_ever(bench)


@row("14b", "made-up clients of the Internet fill the sets of both boxes", setup=cramped, slow=True)
def filled_from_the_internet(bench: Bench) -> None:
    lab, version = bench.lab, bench.family
    inbound = from_the_internet(bench)
    wire = Wire(bench, lab.server, "core", lab.hag)
    destination, port = (
        (lab.cpe.address("xdsl", 4), CLOSED_OUTSIDE) if version == 4 else (lab.client.address("lan", 6), CLOSED_INSIDE)
    )
    for number, source in enumerate(neighbours(bench, bench.server_address)):
        wire.send(Syn(source, destination, port, 20000 + number, capable=False))
    full(bench, lab.hag, f"inbound{version}")
    full(bench, lab.cpe, *(("inbound6",) if version == 6 else ("addressed4", "port4", "mark4", "inbound4")))
    exchange(inbound, 100_000)
    exchange(from_the_internet(bench))
    work_as_ever(bench)


def work_as_ever(bench: Bench) -> None:
    """New connections are bonded, and end as they should."""
    for _ in range(3):
        ends = bench.connect()
        exchange(ends)
        bench.bonded(ends)
        ends.client.close()
        with contextlib.suppress(ConnectionResetError):
            ends.server.recv(1)
            raise AssertionError("no RST")


# Forged segments


class Forger:
    """Sends what others might have sent, from a node and into the network that it is in."""

    def __init__(self, bench: Bench, node: Node, device: str, other: Node) -> None:
        self._wire = Wire(bench, node, device, other)
        self._family = bench.family

    def send(self, source: tuple[str, int], destination: tuple[str, int], flags: str, *, capable: bool = False) -> None:
        """With a sequence number and an acknowledgement that nobody has."""
        header = IP if self._family == 4 else IPv6
        tcp = TCP(sport=source[1], dport=destination[1], flags=flags, seq=0x1000, ack=0x2000)
        data = bytes(header(src=source[0], dst=destination[0]) / tcp)
        if capable:
            data = packet.insert_option(data, packet.OPTION_MPTCP, CAPABLE)
        self._wire.put(data)


RESETS = """\
table inet lab_resets {
  counter seen { }
  chain arriving {
    type filter hook prerouting priority raw
    tcp flags & rst == rst counter name seen
  }
}
"""


@contextlib.contextmanager
def no_reset(*nodes: Node) -> Iterator[None]:
    """Expects that no RST comes to any of these."""
    for node in nodes:
        node.run(["nft", "-f", "-"], text=RESETS)
    try:
        yield
        time.sleep(AT_REST)
        for node in nodes:
            listed = json.loads(node.run(["nft", "-j", "list", "counter", "inet", "lab_resets", "seen"]).stdout)
            (seen,) = [it["counter"]["packets"] for it in listed["nftables"] if "counter" in it]
            equal(f"RSTs that come to {node.label}", seen, 0)
    finally:
        for node in nodes:
            node.run(["nft", "delete", "table", "inet", "lab_resets"])


@row(
    "14c",
    "strangers on either side forge segments of others' connections, bonded and passed ones",
    setup=Policed,
    slow=True,
)
def forged_segments(bench: Bench) -> None:
    lab = bench.lab
    host = lab.client.address("lan", bench.family)
    passed, bonded = connected(bench, host, SECOND_SERVER[bench.family]), connected(bench, host)
    flows = [[flow["client_port"] for flow in bench.flows(daemon)] for daemon in (bench.cpe, bench.hag)]
    equal("which are bonded", [len(it) for it in flows], [1, 1])
    neighbour = Forger(bench, lab.client, "lan", lab.cpe)
    # Before any firewall of the gateway, which is not ours.
    internet, access = Forger(bench, lab.server, "core", lab.hag), Forger(bench, lab.hag, "xdsl", lab.cpe)
    for ends in (passed, bonded):
        client, server = ends.client.getsockname()[:2], ends.client.getpeername()[:2]
        outside = ends.server.getpeername()[:2]  # after the router's NAT
        with no_reset(lab.server, lab.client):
            neighbour.send(client, server, "R")
            neighbour.send(client, server, "S")
            neighbour.send(client, server, "S", capable=True)
        exchange(ends, 10_000)
        with no_reset(lab.server, lab.hag, lab.client):
            for forger in (internet, access):
                for flags, capable in (("SA", True), ("SA", False), ("S", False), ("S", True)):
                    forger.send(server, outside, flags, capable=capable)
        exchange(ends, 10_000)
    if bench.family == 6:  # over IPv4 it would be for the router, who may say that he did not ask
        with no_reset(lab.server, lab.hag, lab.client):
            access.send(server, (host, 1), "SA", capable=True)
    for ends in (passed, bonded):
        exchange(ends)
    now = [[flow["client_port"] for flow in bench.flows(daemon)] for daemon in (bench.cpe, bench.hag)]
    equal("the flows", now, flows)


# Marks

FOREIGN: Final = {
    number: marks.combine(0x00012345, mark)
    for number, mark in enumerate(
        (
            marks.GATE,
            marks.GATE_INBOUND,
            marks.DELIVER,
            *marks.REFUSE.values(),
            marks.INNER_LEG,
            marks.server_leg(),
            marks.server_leg(1),
            marks.release(0),
            marks.replay(0),
            marks.REPLAYED,
        ),
        start=9100,
    )
}
_BY_PORT = ", ".join(f"{port} : {mark:#x}" for port, mark in FOREIGN.items())

MARKED = f"""\
chain marked {{
  type filter hook prerouting priority mangle - 10
  tcp dport {{ {", ".join(map(str, FOREIGN))} }} meta mark set tcp dport map {{ {_BY_PORT} }}
  tcp sport {{ {", ".join(map(str, FOREIGN))} }} meta mark set tcp sport map {{ {_BY_PORT} }}
}}
"""


@row("14d", "others on the boxes mark what arrives with the byte that is ours: it means nothing", setup=direct)
def marked_by_others(bench: Bench) -> None:
    lab = bench.lab
    with foreign(lab.cpe, MARKED), foreign(lab.hag, MARKED):
        for port in FOREIGN:
            listener = bench.listen(port)
            for via in ("guest", "lan"):
                ends = bench.connect(via, listener)
                exchange(ends)
                expect(len(bench.flows(bench.cpe)) == (via == "lan"), f"by way of {via}: {bench.flows(bench.cpe)}")
                if via == "lan":
                    bench.bonded(ends)
                ends.client.close()
            listener.close()
