# SPDX-License-Identifier: GPL-2.0-or-later
"""The path manager with real connections between two namespaces: a CPE with two links and a HAG that announces."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from common import mptcp
from common.path_events import (
    Announced,
    Closed,
    Created,
    Endpoint,
    Established,
    EventsLost,
    JoinFailed,
    PathEvent,
    SubflowClosed,
    SubflowEstablished,
    ends,
)
from common.path_manager import Announcer, PathManager, SubflowLimit
from common.survey import survey
from common.system import SystemLacks
from common.transparent import MPTCP, TCP
from lab.counters import mptcp_counter, received_bytes
from lab.netns import Namespace
from tests.conftest import MakeNamespace
from tests.running import PATIENCE, until

pytestmark = pytest.mark.root

V4, V6 = socket.AF_INET, socket.AF_INET6
PORT, JOIN_PORT = 443, 9001
SERVER = {V4: "203.0.113.10", V6: "2001:db8:f::10"}
LTE = {V4: "198.51.100.66", V6: "2001:db8:2::2"}
HAG = {V4: "198.51.100.65", V6: "2001:db8:2::1"}

CPE_SIDE = """
link set xdsl up
link set lte up
addr add 198.51.100.2/26 dev xdsl
addr add 2001:db8:1::2/64 dev xdsl nodad
addr add 198.51.100.66/26 dev lte
addr add 2001:db8:2::2/64 dev lte nodad
route add default via 198.51.100.1
route add default via 2001:db8:1::1
"""
HAG_SIDE = """
link set xdsl up
link set lte up
addr add 198.51.100.1/26 dev xdsl
addr add 2001:db8:1::1/64 dev xdsl nodad
addr add 198.51.100.65/26 dev lte
addr add 2001:db8:2::1/64 dev lte nodad
addr add 203.0.113.10/32 dev lo
addr add 2001:db8:f::10/128 dev lo nodad
"""

Event = TypeVar("Event", bound=PathEvent)


class Network:
    """Two boxes; the HAG announces its address on lte, the CPE's subflows are ours to order."""

    def __init__(self, cpe: Namespace, hag: Namespace, family: int, undo: contextlib.ExitStack) -> None:
        self.cpe, self.hag, self.family, self._undo = cpe, hag, socket.AddressFamily(family), undo
        for device in ("xdsl", "lte"):
            cpe.configure([f"link add {device} type veth peer name {device} netns {hag.name}"])
        cpe.configure(CPE_SIDE.strip().splitlines())
        hag.configure(HAG_SIDE.strip().splitlines())
        cpe.sysctl({"mptcp/pm_type": 1})
        hag.sysctl({"mptcp/pm_type": 0, "mptcp/allow_join_initial_addr_port": 0})
        hag.sysctl(
            {"ipv4/tcp_timestamps": 0}
        )  # beside them an IPv6 announcement has no room (see docs/configuration.md)
        with cpe.entered():
            self.paths = undo.enter_context(contextlib.closing(PathManager()))
            self.lte = Endpoint(LTE[self.family], id=2, device=socket.if_nametoindex("lte"))
        with hag.entered():
            self.announcer = undo.enter_context(contextlib.closing(Announcer()))
            self.announced = Endpoint(HAG[self.family], JOIN_PORT, device=socket.if_nametoindex("lte"))
        self._seen: list[PathEvent] = []

    def connect(self, client: int = MPTCP, server: int = MPTCP) -> tuple[socket.socket, socket.socket]:
        """A connection over xdsl, after its first bytes both ways."""
        with self.hag.entered():
            listener = socket.create_server(("", PORT), family=self.family) if server == TCP else self._listener()
        with listener:
            listener.settimeout(PATIENCE)
            with self.cpe.entered():
                near = self._undo.enter_context(socket.socket(self.family, socket.SOCK_STREAM, client))
            near.settimeout(PATIENCE)
            near.connect((SERVER[self.family], PORT))
            far = self._undo.enter_context(listener.accept()[0])
            far.settimeout(PATIENCE)
        for here, there in ((near, far), (far, near)):
            here.sendall(b"x")
            assert there.recv(1) == b"x"
        return near, far

    def _listener(self) -> socket.socket:
        listener = socket.socket(self.family, socket.SOCK_STREAM, MPTCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", PORT))
        listener.listen()
        return listener

    def wait_for(self, kind: type[Event]) -> Event:
        """The next event of this kind; those before it are passed over."""

        def look() -> Event | None:
            self._seen += self.paths.events()
            while self._seen:
                event = self._seen.pop(0)
                if isinstance(event, kind):
                    return event
            return None

        found = until(look, f"{kind.__name__} comes")
        assert found is not None
        return found


@pytest.fixture(params=[V4, V6], ids=["IPv4", "IPv6"])
def network(request: pytest.FixtureRequest, make_namespace: MakeNamespace) -> Iterator[Network]:
    with contextlib.ExitStack() as undo:
        yield Network(make_namespace(), make_namespace(), request.param, undo)


def endpoints(namespace: Namespace) -> list[str]:
    return namespace.run(["ip", "mptcp", "endpoint", "show"]).stdout.splitlines()


# Events and orders


def test_the_life_of_a_connection_with_a_second_subflow(network: Network) -> None:
    network.announcer.allow(8)
    network.announcer.announce(network.announced)
    near, far = network.connect()
    token = mptcp.token(near)
    assert token is not None
    assert mptcp.subflows(near) == 1

    assert network.wait_for(Created) == Created(token)
    established = network.wait_for(Established)
    assert (established.token, established.family) == (token, network.family)
    announced = network.wait_for(Announced)
    assert (announced.token, announced.remote.address, announced.remote.port) == (token, HAG[network.family], JOIN_PORT)
    assert announced.remote.id > 0

    network.paths.join(token, network.lte, announced.remote)
    joined = network.wait_for(SubflowEstablished)
    assert joined.token == token
    assert (joined.local.address, joined.local.id) == (LTE[network.family], 2)
    assert joined.remote == announced.remote
    until(lambda: mptcp.subflows(near) == mptcp.subflows(far) == 2)

    near.close()
    far.close()
    assert network.wait_for(Closed) == Closed(token)


def test_a_subflow_that_breaks_is_told_and_can_be_ordered_again(network: Network) -> None:
    network.announcer.allow(8)
    network.announcer.announce(network.announced)
    near, _ = network.connect()
    announced = network.wait_for(Announced)
    for _ in range(2):
        network.paths.join(announced.token, network.lte, announced.remote)
        network.wait_for(SubflowEstablished)
        # The kernel of the CPE ends the TCP connection as if its peer had reset it.
        network.cpe.run(["ss", "--kill", "--tcp", "src", f"[{LTE[network.family]}]"])
        closed = network.wait_for(SubflowClosed)
        assert (closed.token, closed.local.id) == (announced.token, 2)
        assert closed.error == errno.ECONNABORTED
    assert mptcp.token(near) == announced.token


def test_a_join_that_the_peer_refuses(network: Network) -> None:
    """Nobody listens there: the answer is an event too."""
    network.connect()
    token = network.wait_for(Established).token
    network.paths.join(token, network.lte, Endpoint(HAG[network.family], 9999, 1))
    closed = network.wait_for(SubflowClosed)
    assert (closed.token, closed.local.id, closed.error) == (token, 2, errno.ECONNREFUSED)


def test_a_join_for_a_connection_that_is_not_there(network: Network) -> None:
    network.paths.join(4711, network.lte, network.announced)
    failed = network.wait_for(JoinFailed)
    assert (failed.token, failed.error) == (4711, errno.EINVAL)


def test_a_join_that_the_kernel_does_not_take(network: Network) -> None:
    """Its answer is for its token, among those of other orders."""
    network.connect()
    token = network.wait_for(Established).token
    network.paths.join(4711, network.lte, network.announced)
    network.paths.join(
        token, Endpoint("192.0.2.99" if network.family == V4 else "2001:db8:99::1", id=3), network.announced
    )
    assert network.wait_for(JoinFailed).token == 4711
    failed = network.wait_for(JoinFailed)
    assert failed.token == token
    assert failed.error in (errno.EADDRNOTAVAIL, errno.EINVAL)


def test_subflows_become_backups_and_carry_again_at_both_ends(network: Network) -> None:
    """First ones too, in the direction of either sender; the HAG hears of it."""
    network.announcer.allow(8)
    network.announcer.announce(network.announced)
    near, far = network.connect()
    first = ends(network.wait_for(Established).told)
    announced = network.wait_for(Announced)
    token = announced.token
    network.paths.join(token, network.lte, announced.remote)
    joined = network.wait_for(SubflowEstablished)
    lte = joined.local, joined.remote

    def carried_by_lte(sender: socket.socket, receiver: socket.socket, box: Namespace) -> float:
        before = [received_bytes(box, device) for device in ("xdsl", "lte")]
        for _ in range(20):
            sender.sendall(bytes(10_000))
            left = 10_000
            while left:
                left -= len(receiver.recv(left))
        by_xdsl, by_lte = (
            received_bytes(box, device) - earlier for device, earlier in zip(("xdsl", "lte"), before, strict=True)
        )
        return by_lte / (by_xdsl + by_lte)

    for told, (backup, other) in enumerate([(first, lte), (lte, first), (first, lte)], start=1):
        network.paths.prioritize(token, *other, False)
        network.paths.prioritize(token, *backup, True)
        until(lambda times=told: mptcp_counter(network.hag, "MPPrioRx") == 2 * times, "the HAG has heard of it")
        for sender, receiver, box in ((near, far, network.hag), (far, near, network.cpe)):
            share = carried_by_lte(sender, receiver, box)
            assert share > 0.9 if backup is first else share < 0.1


def test_what_is_no_subflow_has_no_priority(network: Network) -> None:
    network.connect()
    token = network.wait_for(Established).token
    network.paths.prioritize(token, network.lte, network.announced, True)
    network.paths.prioritize(4711, network.lte, network.announced, True)
    network.connect()
    network.wait_for(Established)
    assert mptcp_counter(network.hag, "MPPrioRx") == 0


def test_lost_events_are_told_of_and_a_survey_finds_what_there_is(network: Network) -> None:
    network.announcer.allow(8)
    network.announcer.announce(network.announced)
    near, _ = network.connect()
    announced = network.wait_for(Announced)
    network.paths.join(announced.token, network.lte, announced.remote)
    joined = network.wait_for(SubflowEstablished)
    network.paths._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    network.paths.join(4711, network.lte, network.announced)
    others = [network.connect() for _ in range(3)]
    for end in others.pop():
        end.close()
    network.wait_for(EventsLost)
    assert network.paths._orders == {}
    with network.cpe.entered():
        if survey() is None:
            pytest.skip("the kernel does not tell of Multipath TCP sockets (CONFIG_INET_MPTCP_DIAG)")
        until(lambda: set(survey() or {}) == {mptcp.token(near), *(mptcp.token(other) for other, _ in others)})
        found = survey()
    assert found is not None
    first, second = sorted(found[announced.token], key=lambda ends: ends[0].id)
    assert [end.address for end in first] == [near.getsockname()[0], SERVER[network.family]]
    assert [(end.id, end.port) for end in first] == [(0, near.getsockname()[1]), (0, PORT)]
    assert [(end.address, end.id, end.port) for end in second] == [
        (end.address, end.id, end.port) for end in (joined.local, joined.remote)
    ]


# What the kernel tells of a socket


def test_plain_tcp_has_no_token(network: Network) -> None:
    near, far = network.connect(client=TCP)
    assert mptcp.token(near) is None
    assert mptcp.subflows(near) == 0
    assert mptcp.token(far) is None  # of Multipath TCP, but its peer is not


def test_after_a_fallback_neither(network: Network) -> None:
    near, _ = network.connect(server=TCP)
    assert mptcp.token(near) is None
    assert mptcp.subflows(near) == 0


# Announcements


@pytest.fixture
def announcer(namespace: Namespace) -> Iterator[Announcer]:
    namespace.configure(["link add lte type veth peer name tower"])
    namespace.configure(
        [
            "link set lte up",
            "link set tower up",
            "addr add 198.51.100.65/26 dev lte",
            "addr add 2001:db8:2::1/64 dev lte nodad",
        ]
    )
    with contextlib.closing(Announcer()) as announcer:
        yield announcer


def both() -> list[Endpoint]:
    return [Endpoint(address, JOIN_PORT, device=socket.if_nametoindex("lte")) for address in HAG.values()]


def announce(announcer: Announcer) -> None:
    for endpoint in both():
        announcer.announce(endpoint)


def listens(family: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM, MPTCP) as client:
        return client.connect_ex((HAG[socket.AddressFamily(family)], JOIN_PORT)) == 0


def test_announced_and_withdrawn(namespace: Namespace, announcer: Announcer) -> None:
    announce(announcer)
    lines = endpoints(namespace)
    assert len(lines) == 2
    for address, line in zip(HAG.values(), lines, strict=True):
        assert f"{address} port {JOIN_PORT} " in line
        assert "signal" in line
        assert "dev lte" in line
    announcer.withdraw(both())
    assert endpoints(namespace) == []
    announcer.withdraw(both())
    assert endpoints(namespace) == []


def test_announced_again_after_a_crash(namespace: Namespace, announcer: Announcer) -> None:
    announce(announcer)
    with contextlib.closing(Announcer()) as after_crash:
        announce(after_crash)
        assert len(endpoints(namespace)) == 2
        after_crash.withdraw(both())
    assert endpoints(namespace) == []


def test_other_peoples_announcements_stay(namespace: Namespace, announcer: Announcer) -> None:
    namespace.run(["ip", "mptcp", "endpoint", "add", "198.51.100.65", "dev", "lte", "signal"])
    namespace.run(["ip", "mptcp", "endpoint", "add", "198.51.100.65", "port", "7000", "signal"])
    before = endpoints(namespace)
    announce(announcer)
    announcer.withdraw(both())
    assert endpoints(namespace) == before


@pytest.mark.parametrize("protocol", [TCP, MPTCP], ids=["TCP", "MPTCP"])
@pytest.mark.usefixtures("namespace")
def test_a_port_that_another_has_is_named(announcer: Announcer, protocol: int) -> None:
    with socket.socket(V4, socket.SOCK_STREAM, protocol) as other:
        other.bind((HAG[V4], JOIN_PORT))
        other.listen()
        with pytest.raises(SystemLacks) as caught:
            announce(announcer)
    assert str(caught.value) == (
        f"the kernel does not listen for subflows at 198.51.100.65 port {JOIN_PORT}: Address already in use"
    )


def test_the_limit(namespace: Namespace, announcer: Announcer) -> None:
    before = announcer.allowed()
    limit = SubflowLimit(announcer)
    assert limit.read() == str(before)
    limit.write("8")
    assert announcer.allowed() == 8
    assert "subflows 8" in namespace.run(["ip", "mptcp", "limits"]).stdout
    limit.write(str(before))
    assert announcer.allowed() == before


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("probe", [PathManager, Announcer])
def test_descriptors_go_with_the_object(probe: Callable[[], PathManager | Announcer]) -> None:
    before = os.listdir("/proc/self/fd")
    probe().close()
    assert os.listdir("/proc/self/fd") == before
