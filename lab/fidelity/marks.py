# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on packet marks of others, and what they route by them, beside connections from the Internet."""

import contextlib
import socket
from collections.abc import Iterator

from lab.fidelity.bench import Bench, equal
from lab.fidelity.inbound import Inbound
from lab.fidelity.matrix import row
from lab.node import Node

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


@row("7q", "beside connections from the Internet: others mark what is forwarded with a bit of ours", setup=Inbound)
def with_our_bit(bench: Bench) -> None:
    for box in (bench.lab.hag, bench.lab.cpe):
        with foreign(box, UDP_WITH_OUR_BIT):
            receiver, sender = (datagrams(bench, node) for node in (bench.lab.server, bench.lab.client))
            receiver.bind((bench.server_address, 0))
            sender.bind((bench.lab.client.address("lan", bench.family), 0))
            sender.sendto(b"marked", receiver.getsockname())
            equal(f"what comes through {box.name}", receiver.recv(16), b"marked")
