# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on packet marks of others, and what they route by them, beside connections from the Internet."""

import contextlib
import json
import socket
from collections.abc import Iterator

from lab.fidelity.bench import PATIENCE, Bench, Ends, equal, exchange, expect
from lab.fidelity.internet import INSIDE, Inbound, address, inside_listener, outside_client
from lab.fidelity.matrix import row
from lab.fidelity.native import sock
from lab.node import Node

FORWARDED = 8191  # a port whose bytes are all ones in the mark's bits 8 to 13, which mwan3 takes for its own
OTHERS = 0x00123456

FORWARD = f"""\
chain forwards {{
  type nat hook prerouting priority dstnat
  iifname "xdsl" ip daddr 198.51.100.2 tcp dport {FORWARDED} dnat ip to 192.0.2.10:{INSIDE}
}}
"""
SYNS_MARKED = f"""\
counter kept {{
}}
counter changed {{
}}
chain marked {{
  type filter hook prerouting priority mangle - 10
  iifname "xdsl" tcp flags & (syn | ack) == syn meta mark set {OTHERS:#x}
}}
chain leaving {{
  type filter hook postrouting priority mangle
  oifname "lan" tcp flags & (syn | ack) == syn meta mark {OTHERS:#x} counter name kept return
  oifname "lan" tcp flags & (syn | ack) == syn tcp dport {INSIDE} iifname "xdsl" counter name changed
}}
"""
UDP_WITH_OUR_BIT = """\
chain forwarded {
  type filter hook prerouting priority mangle + 20
  meta l4proto udp meta mark set meta mark | 0x80000000
}
"""


@contextlib.contextmanager
def foreign(box: Node, rules: str) -> Iterator[None]:
    """A table of somebody else's."""
    box.run(["nft", "-f", "-"], text=f"table inet lab_foreign {{\n{rules}\n}}\n")
    try:
        yield
    finally:
        box.run(["nft", "delete", "table", "inet", "lab_foreign"])


def datagrams(bench: Bench, node: Node) -> socket.socket:
    with node.entered():
        sock = socket.socket(socket.AF_INET6 if bench.family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    bench.undo(sock.close)
    sock.settimeout(1)
    return sock


def reached(bench: Bench, where: tuple[str, int], client: socket.socket, listener: socket.socket) -> None:
    """Connects, and data goes both ways."""
    client.connect(where)
    server = listener.accept()[0]
    bench.undo(server.close)
    server.settimeout(PATIENCE)
    exchange(Ends(client, server))


@row("7r", "from the Internet: a port forward beside routing of others by mark", setup=Inbound)
def beside_policy_routing(bench: Bench) -> None:
    """Whatever port it is, no rule of theirs sees it in the mark."""
    rule = ["rule", "add", "pref", "2062", "fwmark", "0x3f00/0x3f00", "unreachable"]
    box, port = bench.lab.cpe, FORWARDED if bench.family == 4 else INSIDE
    for family in ("-4", "-6"):
        box.run(["ip", family, *rule])
        bench.undo(lambda family=family: box.run(["ip", family, "rule", "del", "pref", "2062"]))  # type: ignore[misc]
    with foreign(box, FORWARD), inside_listener(bench) as listener, bench.counts(bench.cpe, "opened: bonded"):
        reached(bench, address(bench, port), outside_client(bench), listener)
        (flow,) = bench.flows(bench.cpe)
        equal("the port that the router shows", flow["server_port"], port)


@row("7u", "from the Internet: a SYN that passes keeps the mark of others", setup=Inbound)
def kept(bench: Bench) -> None:
    box = bench.lab.cpe
    with foreign(box, SYNS_MARKED):
        for dead in (False, True):
            if dead:
                bench.cpe.kill_all()
            try:
                with inside_listener(bench) as listener:
                    reached(bench, address(bench), sock(bench, bench.lab.server, mptcp=True), listener)
                    reached(bench, address(bench), outside_client(bench), listener)
            finally:
                if dead:
                    bench.cpe.start()
        found = {name: packets(box, name) for name in ("kept", "changed")}
    expect(found["kept"] >= 3 and not found["changed"], f"SYNs to the host inside, by their mark: {found}")


def packets(box: Node, counter: str) -> int:
    listed = json.loads(box.run(["nft", "-j", "list", "counter", "inet", "lab_foreign", counter]).stdout)
    (found,) = [item["counter"]["packets"] for item in listed["nftables"] if "counter" in item]
    return int(found)


@row("7q", "beside connections from the Internet: others mark what is forwarded with a bit of ours", setup=Inbound)
def with_our_bit(bench: Bench) -> None:
    for box in (bench.lab.hag, bench.lab.cpe):
        with foreign(box, UDP_WITH_OUR_BIT):
            receiver, sender = (datagrams(bench, node) for node in (bench.lab.server, bench.lab.client))
            receiver.bind((bench.server_address, 0))
            sender.bind((bench.lab.client.address("lan", bench.family), 0))
            sender.sendto(b"marked", receiver.getsockname())
            equal(f"what comes through {box.name}", receiver.recv(16), b"marked")
