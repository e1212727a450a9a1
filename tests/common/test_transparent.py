# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets with other hosts' addresses: what they are set to, who reaches them, how they end."""

import contextlib
import errno
import hashlib
import os
import random
import socket
import struct
from collections.abc import Iterator

import pytest

from common import transparent
from common.relay import PIPE
from common.transparent import MPTCP, TCP
from lab.netns import Namespace
from tests.running import PATIENCE, until

pytestmark = pytest.mark.root

TCP_NOTSENT_LOWAT = 25
IP_BIND_ADDRESS_NO_PORT = 24
PORT = 9000
HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=[TCP, MPTCP], ids=["TCP", "MPTCP"])
def protocol(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def host(family: int) -> str:
    return HOSTS[socket.AddressFamily(family)]


@contextlib.contextmanager
def accepting(family: int, protocol: int, buffer: int = 0) -> Iterator[socket.socket]:
    """An ordinary server's listener on loopback; its connections have a receive buffer of `buffer` bytes."""
    with socket.socket(family, socket.SOCK_STREAM, protocol) as server:
        if buffer:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        server.bind((host(family), 0))
        server.listen()
        server.settimeout(PATIENCE)
        yield server


@contextlib.contextmanager
def connected(family: int, protocol: int, buffer: int = 0) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server leg and the server at its other end."""
    with accepting(family, protocol, buffer) as listener:
        leg = transparent.server_leg(family, protocol, (host(family), 0), listener.getsockname()[:2], 0)
        with leg:
            server, _ = listener.accept()
            with server:
                server.settimeout(PATIENCE)
                # The connection is of Multipath TCP for both only after the first data.
                server.sendall(b"x")
                until(lambda: received(leg, 1))
                leg.send(b"x")
                assert server.recv(1) == b"x"
                yield leg, server


def received(sock: socket.socket, size: int) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return sock.recv(size)
    return b""


def fill(leg: socket.socket, most: int = 1 << 24) -> bytes:
    """Sends until the leg takes no more; what it took."""
    data, sent = random.Random(3).randbytes(most), 0
    with contextlib.suppress(BlockingIOError):
        while sent < most:
            sent += leg.send(data[sent : sent + 65536])
    return data[:sent]


def read_slowly(sock: socket.socket) -> Iterator[bytes]:
    while data := sock.recv(3000):
        yield data


def options(sock: socket.socket) -> dict[str, int | tuple[int, ...]]:
    return {
        "linger": struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)),
        "keepalive": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        "nodelay": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        "receives": sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        "sends": sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
    }


def is_prepared(leg: socket.socket, protocol: int) -> None:
    """To receive, Multipath TCP has five eighths of what a flow may hold, TCP two; to send TCP has one; less a packet.

    What Multipath TCP has to send is not fixed: the first subflow would take in all of it before another has joined.
    """
    seen = options(leg)
    an_eighth = seen.pop("sends") == 2_031_616
    receives = 10_420_224 if protocol == MPTCP else 4_128_768
    assert seen == {"linger": (1, 0), "keepalive": 1, "nodelay": 1, "receives": receives}
    assert an_eighth is (protocol == TCP)


@pytest.mark.usefixtures("namespace")
def test_an_accepted_socket_inherits_what_the_listener_was_set_to(family: int, protocol: int) -> None:
    with (
        transparent.listener(family, PORT, protocol) as listener,
        socket.socket(family, socket.SOCK_STREAM, protocol) as client,
    ):
        client.connect((host(family), PORT))
        leg, _ = until_accepted(listener)
        with leg:
            is_prepared(leg, protocol)
            if protocol == TCP:
                assert leg.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT) == transparent.UNSENT


def give_addresses(namespace: Namespace) -> None:
    """A network of its own besides loopback."""
    namespace.configure(["link add v0 type veth peer name v1"])
    namespace.configure(
        ["link set v0 up", "link set v1 up", "addr add 192.0.2.1/24 dev v0", "addr add 2001:db8::1/64 dev v0 nodad"]
    )
    # The kernel makes an IPv6 address its own a moment after it has been told to.
    until(lambda: namespace.run(["ip", "route", "get", "2001:db8::1"], check=False).stdout.startswith("local"))


def accept_peer(listener: socket.socket) -> tuple[str, int]:
    """Accepts a connection, closes it and says where it came from."""
    sock, (address, port, *_) = listener.accept()
    sock.close()
    return address, port


def until_accepted(listener: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
    def accept() -> tuple[socket.socket, tuple[str, int]] | None:
        with contextlib.suppress(BlockingIOError):
            return listener.accept()
        return None

    accepted = until(accept)
    assert accepted
    return accepted


@pytest.mark.usefixtures("namespace")
def test_a_server_leg_is_set_likewise(family: int, protocol: int) -> None:
    with connected(family, protocol) as (leg, _):
        is_prepared(leg, protocol)


def test_nobody_reaches_the_listener_from_outside(namespace: Namespace, protocol: int) -> None:
    give_addresses(namespace)
    for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with transparent.listener(family, PORT, protocol), socket.socket(family) as client:
            assert client.connect_ex((address, PORT)) == errno.ECONNREFUSED


@pytest.mark.usefixtures("namespace")
def test_listeners_of_both_families_share_a_port_and_no_other_takes_it(protocol: int) -> None:
    before = os.listdir("/proc/self/fd")
    with transparent.listener(socket.AF_INET, PORT, protocol), transparent.listener(socket.AF_INET6, PORT, protocol):
        open_now = os.listdir("/proc/self/fd")
        for family in (socket.AF_INET, socket.AF_INET6):
            with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
                transparent.listener(family, PORT, protocol)
        assert os.listdir("/proc/self/fd") == open_now
    assert os.listdir("/proc/self/fd") == before


# Server legs


def test_a_server_leg_has_the_clients_address(namespace: Namespace, family: int, protocol: int) -> None:
    client = {socket.AF_INET: "192.0.2.77", socket.AF_INET6: "2001:db8::77"}[socket.AddressFamily(family)]
    # Not an address of this host, but what is sent to it comes here.
    namespace.configure([f"route add local {client} dev lo"])
    with (
        accepting(family, protocol) as listener,
        transparent.server_leg(family, protocol, (client, 4321), listener.getsockname()[:2], 0),
    ):
        assert accept_peer(listener) == (client, 4321)


@pytest.mark.usefixtures("namespace")
def test_one_client_port_leads_to_several_servers(family: int, protocol: int) -> None:
    source = (host(family), 4321)
    with (
        accepting(family, protocol) as one,
        accepting(family, protocol) as other,
        transparent.server_leg(family, protocol, source, one.getsockname()[:2], 0),
        transparent.server_leg(family, protocol, source, other.getsockname()[:2], 0),
    ):
        assert accept_peer(one) == accept_peer(other) == source


@pytest.fixture
def _one_port(namespace: Namespace) -> None:
    namespace.sysctl({"ipv4/ip_local_port_range": "50000 50000"})


@pytest.mark.usefixtures("_one_port")
def test_the_kernel_may_choose_one_port_for_two_servers(family: int, protocol: int) -> None:
    """What fits an address pair fits: ports run out for one server, not for all together."""
    source = (host(family), 0)
    with (
        accepting_at(family, protocol, 8001) as one,
        accepting_at(family, protocol, 8002) as other,
        transparent.server_leg(family, protocol, source, one.getsockname()[:2], 0),
        transparent.server_leg(family, protocol, source, other.getsockname()[:2], 0),
    ):
        assert accept_peer(one) == accept_peer(other) == (host(family), 50000)


@pytest.mark.usefixtures("_one_port")
def test_no_port_left_is_an_error_that_says_so(family: int) -> None:
    """People read its text: it is what a connection was passed on for."""
    source = (host(family), 0)
    with (
        accepting_at(family, TCP, 8001) as server,
        transparent.server_leg(family, TCP, source, server.getsockname()[:2], 0),
        pytest.raises(OSError) as caught,  # noqa: PT011 (errno and text follow)
    ):
        transparent.server_leg(family, TCP, source, server.getsockname()[:2], 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert caught.value.strerror == os.strerror(errno.EADDRNOTAVAIL)


@contextlib.contextmanager
def accepting_at(family: int, protocol: int, port: int) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_STREAM, protocol) as server:
        server.bind((host(family), port))
        server.listen()
        server.settimeout(PATIENCE)
        yield server


def test_what_cannot_even_be_tried_leaves_no_socket(namespace: Namespace, family: int, protocol: int) -> None:
    give_addresses(namespace)
    before = os.listdir("/proc/self/fd")
    here, there = {socket.AF_INET: ("192.0.2.1", "198.51.100.1"), socket.AF_INET6: ("2001:db8::1", "2001:db8:1::1")}[
        socket.AddressFamily(family)
    ]
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the kernel's errno follows)
        transparent.server_leg(family, protocol, (here, 0), (there, 80), 0)
    assert caught.value.errno == errno.ENETUNREACH
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.usefixtures("namespace")
def test_the_mark(family: int, protocol: int) -> None:
    with accepting(family, protocol) as listener:
        leg = transparent.server_leg(family, protocol, (host(family), 0), listener.getsockname()[:2], 0x50000000)
        with leg:
            assert leg.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 0x50000000
            assert leg.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0


@pytest.mark.usefixtures("namespace")
def test_the_dscp(family: int, protocol: int) -> None:
    with accepting(family, protocol) as listener:
        mark, dscp = 0x50000000, 46
        leg = transparent.server_leg(family, protocol, (host(family), 0), listener.getsockname()[:2], mark, dscp)
        with leg:
            assert leg.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 0x502E0000
            assert leg.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 46 << 2


# Older kernels


class Linux66Socket(socket.socket):
    """Refuses what mptcp_setsockopt() of Linux 6.1 and 6.6 does not know (net/mptcp/sockopt.c)."""

    def setsockopt(self, level: int, name: int, value: object, *size: int) -> None:
        if self.proto == MPTCP and (level, name) == (socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        if self.proto == MPTCP and (level, name) == (socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT):
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        super().setsockopt(level, name, value, *size)  # type: ignore[call-overload]


@pytest.mark.usefixtures("namespace")
def test_kernels_from_6_1_on_will_do(monkeypatch: pytest.MonkeyPatch, family: int) -> None:
    """Debian 12 has 6.1, OpenWrt 24.10 has 6.6; Multipath TCP learned the two options later."""
    with accepting(family, MPTCP) as target:
        monkeypatch.setattr(socket, "socket", Linux66Socket)
        transparent.listener(family, PORT, MPTCP).close()
        transparent.server_leg(family, MPTCP, (host(family), 0), target.getsockname()[:2], 0).close()


# The end


@pytest.mark.usefixtures("namespace")
def test_an_orderly_close_loses_nothing(family: int, protocol: int) -> None:
    """What waits in the socket still goes to a slow reader with a small buffer, and then comes the end."""
    with connected(family, protocol, buffer=32768) as (leg, server):
        sent = fill(leg)
        assert len(sent) > 100_000
        server.shutdown(socket.SHUT_WR)
        leg.shutdown(socket.SHUT_WR)
        transparent.close_in_order(leg)
        got = b"".join(read_slowly(server))
        assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()


@pytest.mark.usefixtures("namespace")
def test_any_other_close_is_a_reset(family: int, protocol: int) -> None:
    with connected(family, protocol) as (leg, server):
        leg.send(b"half a file")
        leg.close()
        with pytest.raises(ConnectionResetError):
            list(read_slowly(server))


@pytest.mark.usefixtures("namespace")
def test_closing_twice_or_after_the_peer_has_reset(family: int, protocol: int) -> None:
    with connected(family, protocol) as (leg, server):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        transparent.close_in_order(leg)
        transparent.close_in_order(leg)


@pytest.mark.parametrize("flow_buffer", [1 << 20, transparent.FLOW_BUFFER, 1 << 30])
@pytest.mark.parametrize(("source", "sink"), [(MPTCP, TCP), (TCP, MPTCP)])
def test_a_flow_holds_no_more_than_it_may(source: int, sink: int, flow_buffer: int) -> None:
    seen = {}
    for protocol in (source, sink):
        with transparent.listener(socket.AF_INET, 0, protocol, flow_buffer=flow_buffer) as sock:
            seen[protocol] = options(sock)
    receives, sends = seen[source]["receives"], seen[sink]["sends"]
    packet = 1 << 16
    assert isinstance(receives, int)
    assert isinstance(sends, int)
    assert flow_buffer // 8 < receives + sends + 2 * packet + PIPE <= flow_buffer


@pytest.mark.usefixtures("namespace")
def test_little_waits_unsent(family: int, protocol: int) -> None:
    """Beside what the network and the reader hold, a leg takes UNSENT bytes and no megabytes."""
    with connected(family, protocol, buffer=4096) as (leg, _):
        assert len(fill(leg)) < 3 * transparent.UNSENT
