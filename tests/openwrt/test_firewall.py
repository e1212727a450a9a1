# SPDX-License-Identifier: GPL-2.0-or-later
"""What OpenWrt's firewall does to bonded connections, and what the package's rule changes (fw4.py)."""

import contextlib
import select
import socket
import time
from collections.abc import Iterator

import pytest

from lab.access import Kind
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.errors import LabError
from lab.fidelity.internet import Inbound
from lab.netns import Namespace
from lab.servers import TcpServer
from lab.topology import Lab
from tests.lab.flows import carry
from tests.openwrt.fw4 import INSIDE, OUTSIDE, load, rules
from tests.running import until

pytestmark = pytest.mark.root

AT_ONCE = 120
RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER without a wait
PATIENCE = 0.8  # seconds; a SYN that is lost comes again after one


@pytest.mark.parametrize("snippet", [True, False])
def test_nft_takes_it(namespace: Namespace, snippet: bool) -> None:
    namespace.run(["nft", "-f", "-"], text=rules(snippet=snippet))
    listed = namespace.run(["nft", "list", "chain", "inet", "fw4", "input"]).stdout
    assert ("hybrid-access: a leg of ours" in listed) == snippet
    if snippet:
        assert listed.index("hybrid-access") < listed.index("ct state") < listed.index("syn_flood")


@pytest.fixture(scope="module")
def pair(obstacle: str) -> Iterator[Pair]:
    if obstacle:
        pytest.skip(obstacle)
    bypass = "config bypass 'forwarded'\n list dport '7777'\n"
    with Pair(Kind.DIRECT, cpe_options={"lan": ["lan", "guest"]}, cpe_rules=bypass) as pair:
        yield pair


@pytest.fixture(scope="module")
def port(pair: Pair) -> int:
    return TcpServer(pair.lab.server).port


def opened_at_once(lab: Lab, port: int) -> int:
    """Of AT_ONCE connections over IPv4 those that come about before a SYN would be sent again."""
    with contextlib.ExitStack() as undo, lab.client.entered():
        poll, waiting = select.poll(), {}
        for _ in range(AT_ONCE):
            sock = undo.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.setblocking(False)
            waiting[sock.fileno()] = sock
            poll.register(sock, select.POLLOUT)
        for sock in waiting.values():
            sock.connect_ex((lab.server.address("core", 4), port))
        deadline = time.monotonic() + PATIENCE
        while waiting and (left := deadline - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                assert waiting.pop(fd).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                poll.unregister(fd)
        return AT_ONCE - len(waiting)


@pytest.mark.full
def test_with_the_rule_a_burst_of_connections_is_bonded(pair: Pair, port: int) -> None:
    load(pair.lab, snippet=True)
    before = pair.bonded()
    assert opened_at_once(pair.lab, port) == AT_ONCE
    assert pair.bonded() - before == AT_ONCE


@pytest.mark.full
def test_without_it_the_limit_for_syns_to_the_router_itself_meets_it(pair: Pair, port: int) -> None:
    load(pair.lab, snippet=False)
    assert opened_at_once(pair.lab, port) < AT_ONCE - 20


@pytest.mark.full
@pytest.mark.parametrize("family", [4, 6])
def test_a_zone_that_may_not_talk_to_the_router(pair: Pair, port: int, family: int) -> None:
    load(pair.lab, snippet=False)
    with pytest.raises(LabError, match="Connection refused"):
        connect(pair.lab, family, port, "guest")
    load(pair.lab, snippet=True)
    before = pair.bonded()
    connection, _ = connect(pair.lab, family, port, "guest")
    with connection:
        answers(connection, 1 << 20)
    assert pair.bonded() == before + 1


@pytest.mark.full
@pytest.mark.parametrize("family", [4, 6])
def test_rules_for_forwarded_packets_do_not_see_bonded_connections(pair: Pair, port: int, family: int) -> None:
    """docs/openwrt.md says so, and that `config bypass` is how they do."""
    load(pair.lab, snippet=True, rule="meta l4proto tcp jump handle_reject")
    connection, _ = connect(pair.lab, family, port)
    with connection:
        answers(connection, 1 << 20)
    with pytest.raises(LabError, match="Connection refused"):
        connect(pair.lab, family, 7777)
    counters = pair.cpe.status()["counters"]
    assert counters["passed: bypass 'forwarded'"] >= 1


@pytest.mark.full
def test_what_the_daemon_asks_of_the_gateway_is_answered(pair: Pair) -> None:
    load(pair.lab, snippet=True)
    until(lambda: all(link["rtt_ms"] is not None for link in pair.cpe.control("links")), "links are measured")


@pytest.mark.full
@pytest.mark.parametrize("snippet", [True, False])
def test_connections_from_the_internet_are_the_forward_rules_to_judge(snippet: bool) -> None:
    with Inbound(accesses=Kind.DIRECT) as pair:
        load(pair.lab, snippet=snippet)
        for bonded, (family, port) in enumerate([(4, OUTSIDE), (6, INSIDE)], start=1):
            kind = socket.AF_INET6 if family == 6 else socket.AF_INET
            host = pair.lab.cpe.address("xdsl", 4) if family == 4 else pair.lab.client.address("lan", 6)
            with pair.lab.client.entered():
                server = socket.socket(kind)
            with pair.lab.server.entered():
                client, other = socket.socket(kind), socket.socket(kind)
            with server, client, other:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind(("", INSIDE))
                server.listen()
                client.settimeout(10)
                client.connect((host, port))
                accepted, _ = server.accept()
                with accepted:
                    carry(client, accepted, bytes(1 << 20))
                    carry(accepted, client, bytes(1 << 20))
                    assert pair.bonded(pair.hag) == bonded
                other.settimeout(PATIENCE)
                with pytest.raises((TimeoutError, ConnectionRefusedError)):  # a port that nobody has opened
                    other.connect((host, 8079))


OTHERS = """\
table inet other {
  chain prerouting {
    type filter hook prerouting priority raw
    iifname "xdsl" meta mark set 0x49000000
  }
}
"""


@pytest.mark.full
@pytest.mark.parametrize("family", [4, 6])
def test_the_router_itself_is_as_closed_as_before(pair: Pair, family: int) -> None:
    """Even where something else on it marks packets as the daemon does."""
    load(pair.lab, snippet=True)
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    pair.lab.cpe.run(["nft", "-f", "-"], text=OTHERS)
    with pair.lab.cpe.entered():
        server = socket.socket(kind)
    with pair.lab.hag.entered():
        stranger = socket.socket(kind)
    with server, stranger:
        server.bind(("", 8080))
        server.listen()
        stranger.settimeout(PATIENCE)
        with pytest.raises(ConnectionRefusedError):
            stranger.connect((pair.lab.cpe.address("xdsl", family), 8080))
    pair.lab.cpe.run(["nft", "delete", "table", "inet", "other"])
