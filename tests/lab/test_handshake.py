# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening a connection when the network or the server does not help."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.access import Kind
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.netns import Namespace
from lab.servers import TcpServer

pytestmark = pytest.mark.root

FAMILIES = pytest.mark.parametrize("family", [4, 6])


@contextmanager
def deaf(pair: Pair, family: int, port: int, seconds: float) -> Iterator[None]:
    """For so long the server's host loses whatever comes for the port."""
    program = "iptables" if family == 4 else "ip6tables"
    rule = ["INPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP"]
    pair.lab.server.run([program, "-I", *rule])
    timer = threading.Timer(seconds, lambda: pair.lab.server.run([program, "-D", *rule]))
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.parametrize("family", [4, pytest.param(6, marks=pytest.mark.full)])  # ten seconds each
def test_server_that_answers_the_fourth_syn(family: int) -> None:
    """By then the CPE's kernel sends its SYN without MP_CAPABLE: that copy must not reach the server past the HAG."""
    with Pair() as pair:
        server = TcpServer(pair.lab.server)
        times = {}
        for device in ("guest", "lan"):  # forwarded, through the pair
            with deaf(pair, family, server.port, 3.6):
                connection, times[device] = connect(pair.lab, family, server.port, device)
                with connection:
                    answers(connection)
        assert times["lan"] == pytest.approx(times["guest"], abs=500)  # a SYN more or less would be 1000
        assert pair.bonded(pair.hag) == 0
        assert pair.hag.status()["counters"]["opened: plain TCP"] == 1
        assert pair.cpe.status()["avoided"] == [], "the HAG had the option"


@FAMILIES
@pytest.mark.parametrize("answer", ["tcp reset", "icmpx host-unreachable", "icmpx no-route", "icmpx admin-prohibited"])
def test_refusal_is_the_server_s(family: int, answer: str) -> None:
    """Whatever plain forwarding tells the client, the pair tells."""
    with Pair(Kind.DIRECT) as pair:
        what = answer.replace("icmpx ", "icmpx type ")
        pair.lab.server.run(["nft", "-f", "-"], text=REFUSAL.format(what))
        refusals = {device: refused(pair, family, device) for device in ("guest", "lan")}
        assert refusals["lan"] == refusals["guest"]


REFUSAL = """table inet refusal {{
  chain input {{ type filter hook input priority 0; tcp dport 4000 reject with {}; }}
}}"""


def refused(pair: Pair, family: int, device: str) -> int | None:
    with pair.lab.client.entered(), pytest.raises(OSError, match=r"\[Errno") as caught:
        opened(pair, family, device, (pair.lab.server.address("core", family), 4000))
    return caught.value.errno


FAR = {
    4: ("203.0.113.65", "203.0.113.66", "203.0.113.64/26", 26),
    6: ("2001:db8:3001::1", "2001:db8:3001::2", "2001:db8:3001::/64", 64),
}


@FAMILIES
def test_path_that_is_narrower_behind_the_gateway(family: int, namespace: Namespace) -> None:
    """A router there says so in an ICMP error to the client's address: it is for the gateway's leg."""
    with Pair(Kind.DIRECT) as pair:
        router, hag = pair.lab.server, pair.lab.hag
        near, far, network, length = FAR[family]
        router.configure(
            [
                f"link add far type veth peer name far netns {namespace.name}",
                f"address add {near}/{length} dev far{' nodad' if family == 6 else ''}",
                "link set far mtu 1300 up",
            ]
        )
        router.sysctl({"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
        namespace.configure([f"address add {far}/{length} dev far{' nodad' if family == 6 else ''}", "link set far up"])
        namespace.configure([f"route add default via {near}"])
        hag.configure([f"route add {network} via {router.address('core', family)}"])
        server = TcpServer(namespace, "sink")
        for device in ("guest", "lan"):
            with pair.lab.client.entered(), opened(pair, family, device, (far, server.port)) as client:
                client.sendall(bytes(300_000))
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b"", device  # the server has read to the end
        assert pair.bonded() == 1


def opened(pair: Pair, family: int, device: str, address: tuple[str, int], patience: float = 10.0) -> socket.socket:
    client = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
    client.settimeout(patience)
    client.bind((pair.lab.client.address(device, family), 0))
    try:
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client


@FAMILIES
def test_what_the_routing_table_sends_elsewhere_is_left_alone(family: int) -> None:
    """To another LAN, say: there is no gateway on the way to it."""
    with Pair(Kind.DIRECT) as pair:
        address = FAR[family][1]
        pair.lab.cpe.configure([f"route add {address} dev guest"])
        with pair.lab.client.entered(), pytest.raises(OSError, match=r"timed out|No route|unreachable"):
            opened(pair, family, "lan", (address, 80), patience=0.5)
        assert pair.cpe.status()["counters"] == {}
        assert pair.cpe.control("flows") == []
