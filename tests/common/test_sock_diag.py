# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel says of an address pair's connection, in each of its ages."""

import socket

import pytest

from common import sock_diag
from common.transparent import MPTCP, TCP
from tests.running import PATIENCE, until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("namespace")]

HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
MORE = 1 << 20  # bytes: than the peer takes in unread


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize("protocol", [TCP, MPTCP], ids=["TCP", "MPTCP"])
def test_a_connection_is_alive_until_its_last_byte_is_acknowledged(family: int, protocol: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM, protocol) as listener:
        listener.bind((HOSTS[socket.AddressFamily(family)], 0))
        listener.listen()
        there = listener.getsockname()[:2]
        leg = socket.socket(family, socket.SOCK_STREAM, protocol)
        leg.settimeout(PATIENCE)
        leg.connect(there)
        here = leg.getsockname()[:2]
        peer = listener.accept()[0]
        with peer:
            peer.settimeout(PATIENCE)
            assert sock_diag.is_alive(here, there)
            assert sock_diag.is_alive(there, here)
            assert not sock_diag.is_alive((here[0], here[1] ^ 1), there)
            peer.shutdown(socket.SHUT_WR)
            assert leg.recv(1) == b""
            leg.setblocking(False)
            sent = 0
            while sent < MORE:
                try:
                    sent += leg.send(bytes(MORE))
                except BlockingIOError:
                    break
            leg.close()
            assert sock_diag.is_alive(here, there)
            while peer.recv(MORE):
                pass
        until(lambda: not sock_diag.is_alive(here, there))
        assert not sock_diag.is_alive(there, here)  # in TIME_WAIT


def test_a_listener_is_no_connection(family: int) -> None:
    with socket.create_server((HOSTS[socket.AddressFamily(family)], 0), family=family) as listener:
        there = listener.getsockname()[:2]
        assert not sock_diag.is_alive(there, (there[0], 40000))


def test_a_kernel_that_cannot_tell_knows_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sock_diag, "_NETLINK_SOCK_DIAG", 31)  # no such protocol
    assert not sock_diag.is_alive(("127.0.0.1", 1), ("127.0.0.1", 2))
