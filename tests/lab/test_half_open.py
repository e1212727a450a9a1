# SPDX-License-Identifier: GPL-2.0-or-later
"""One host that opens connections to addresses where nobody answers."""

import socket

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from lab.access import Kind
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.servers import TcpServer

pytestmark = pytest.mark.root

SILENT = {4: "203.0.113.20", 6: "2001:db8:3000::200"}
SHARE = 512  # a quarter of what a listener's backlog of 4096 allows
SYNS = 700


@pytest.mark.parametrize("family", [4, 6])
def test_the_others_are_bonded_all_the_same(family: int) -> None:
    with Pair(Kind.DIRECT, cpe_options={"workers": 1}) as pair:
        server = TcpServer(pair.lab.server)
        send_syns(pair, family)
        counters = pair.cpe.status()["counters"]
        assert counters == {"passed: too many half-open connections of this host": SYNS - SHARE}
        other = neighbour(pair, family)
        with (
            pair.lab.client.entered(),
            socket.create_connection(
                (pair.lab.server.address("core", family), server.port), 5, (other, 0)
            ) as connection,
        ):
            answers(connection)
        assert pair.bonded() == 1
        # That host's own connections pass unbonded.
        connect(pair.lab, family, server.port)[0].close()
        assert pair.bonded() == 1


def send_syns(pair: Pair, family: int) -> None:
    source = pair.lab.client.address("lan", family)
    # Somebody must be there for the network to deliver to, or it says so and the SYNs are refused.
    pair.lab.hag.configure([f"neighbour replace {SILENT[family]} lladdr 02:00:00:00:00:01 dev core"])
    header = IP(src=source, dst=SILENT[family]) if family == 4 else IPv6(src=source, dst=SILENT[family])
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with pair.lab.client.entered(), socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for port in range(20000, 20000 + SYNS):
            packet = bytes(header / TCP(sport=port, dport=80, flags="S", seq=1))
            raw.sendto(packet, (SILENT[family], 0))


def neighbour(pair: Pair, family: int) -> str:
    """Another host of the LAN, which for the router is another address."""
    address = "192.0.2.11" if family == 4 else "2001:db8:1000:1::11"
    length = 26 if family == 4 else 64
    pair.lab.client.configure([f"address add {address}/{length} dev lan{' nodad' if family == 6 else ''}"])
    return address
