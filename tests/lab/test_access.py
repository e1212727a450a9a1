# SPDX-License-Identifier: GPL-2.0-or-later
"""An access is as fast as it should be, and breaks and mends as it is told."""

import contextlib
import json
import socket
import statistics
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.access import LTE, XDSL, Cut, Kind, Profile, Way
from lab.errors import LabError
from lab.servers import IperfServer, TcpServer
from lab.topology import Lab

pytestmark = pytest.mark.root

TCPI_OPT_TIMESTAMPS = 1  # linux/tcp.h
TIMESTAMPS = 8  # the option's kind, RFC 7323


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        TcpServer(lab.server)
        yield lab


@contextlib.contextmanager
def connection(lab: Lab, family: int = 4, timeout: float = 0.5) -> Iterator[socket.socket]:
    with lab.client.entered():
        connection = socket.create_connection((lab.server.address("core", family), 7), timeout)
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def echo(connection: socket.socket) -> float:
    """Seconds there and back."""
    start = time.monotonic()
    connection.sendall(b"?")
    assert connection.recv(1) == b"?"
    return time.monotonic() - start


def connects(lab: Lab, family: int, timeout: float = 0.5) -> bool:
    try:
        with connection(lab, family, timeout) as opened:
            echo(opened)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("family", [4, 6])
def test_delay(lab: Lab, family: int) -> None:
    with connection(lab, family) as opened:
        trips = [echo(opened) for _ in range(30)]
    assert 0.030 <= statistics.median(trips) <= 0.032


@pytest.mark.parametrize("how", list(Cut))
def test_cut_shows_and_restore_mends(lab: Lab, how: Cut) -> None:
    before = cpe_routes(lab)
    lab.xdsl.cut(how)
    device = json.loads(lab.cpe.run(["ip", "-json", "link", "show", "xdsl"]).stdout)[0]
    assert ("UP" in device["flags"]) == (how is Cut.CARRIER)
    assert "LOWER_UP" not in device["flags"]
    for family in (4, 6):
        # without the device's routes the default route over LTE takes over, which has no way back for IPv6
        assert connects(lab, family) == (how is Cut.DOWN and family == 4)
    lab.xdsl.restore()
    assert connects(lab, 4, timeout=5)
    assert connects(lab, 6, timeout=5)
    assert cpe_routes(lab) == before


def cpe_routes(lab: Lab) -> set[str]:
    listings = [lab.cpe.run(["ip", f"-{family}", "route"]).stdout for family in (4, 6)]
    return {line for listing in listings for line in listing.splitlines()}


def test_blackhole_is_silent_and_ends(lab: Lab) -> None:
    with connection(lab) as opened:
        lab.xdsl.blackhole(True)
        device = json.loads(lab.cpe.run(["ip", "-json", "link", "show", "xdsl"]).stdout)[0]
        assert {"UP", "LOWER_UP"} <= set(device["flags"])
        with pytest.raises(TimeoutError):
            echo(opened)
        lab.xdsl.blackhole(False)
        opened.settimeout(5)
        assert opened.recv(1) == b"?"  # TCP repeats it
    assert lab.xdsl.stats()["up"]["swallowed"] > 0


@pytest.mark.parametrize("way", ["up", "down"])
def test_strip_removes_the_option(lab: Lab, way: Way) -> None:
    assert has_timestamps(lab)
    lab.xdsl.set(way, strip=TIMESTAMPS)
    assert not has_timestamps(lab)
    lab.xdsl.set(way, strip=None)
    assert has_timestamps(lab)


def has_timestamps(lab: Lab) -> bool:
    with connection(lab) as opened:
        echo(opened)
        options: int = struct.unpack_from("6B", opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8))[5]
    return bool(options & TCPI_OPT_TIMESTAMPS)


def test_change_of_delay_and_loss(lab: Lab) -> None:
    with connection(lab) as opened:
        lab.xdsl.set(delay=0.05)
        assert 0.1 <= echo(opened) <= 0.11
        lab.xdsl.set("down", loss=1.0)
        with pytest.raises(TimeoutError):
            echo(opened)
        lab.xdsl.set("down", loss=0.0)
        lab.xdsl.set(delay=0.015)
    assert lab.xdsl.stats()["down"]["lost"] > 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rate": -1}, "rate must be above 0 bit/s, not -1"),
        ({"speed": 1}, "unexpected keyword argument 'speed'"),
    ],
)
def test_wrong_setting_is_refused_and_harmless(lab: Lab, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LabError, match=f"the emulator of access 'xdsl' refused 'set': .*{complaint}"):
        lab.xdsl.set(**changes)
    assert connects(lab, 4)


@pytest.mark.parametrize(
    ("name", "family", "options", "rate"),
    [
        ("xdsl", 4, ("--reverse",), XDSL.rate_down),
        ("xdsl", 6, (), XDSL.rate_up),
        ("lte", 4, ("--reverse",), LTE.rate_down),
    ],
)
def test_rate_is_reached_and_kept(
    lab: Lab,
    name: str,
    family: int,
    options: tuple[str, ...],
    rate: float,
) -> None:
    server = IperfServer(lab.server)
    if name == "lte":
        lab.xdsl.cut()
    try:
        report = server.measure(lab.client, family, "--time", "3", "--omit", "1", *options)
    finally:
        server.process.stop()
        lab.xdsl.restore()
    payload = 1448 if family == 4 else 1428
    assert report["end"]["sum_received"]["bits_per_second"] == pytest.approx(rate * payload / 1500, rel=0.05)
    steady = lab.rates("down" if options else "up")["mbit"][name][-15:-5]
    assert statistics.mean(steady) == pytest.approx(rate / 1e6, rel=0.03)


def test_rates_have_what_happened_since(lab: Lab) -> None:
    now = time.monotonic()
    assert connects(lab, 4)  # so that something is delivered
    rates = lab.rates("up", now, [(now + 2, "then"), (now + 1, "first"), (now - 1, "before")])
    assert [what for _, what in rates["marks"]] == ["first", "then"]
    assert rates["marks"][0][0] == pytest.approx(1, abs=rates["interval"] + 0.01)


def test_direct_access_has_nothing_to_set_but_can_be_cut() -> None:
    with Lab(Kind.DIRECT) as lab:
        TcpServer(lab.server)
        with pytest.raises(LabError, match="access 'xdsl' is direct"):
            lab.xdsl.set(rate=1e6)
        for how in Cut:
            lab.xdsl.cut(how)
            assert not connects(lab, 6)
            lab.xdsl.restore()
            assert connects(lab, 6, timeout=5)


def test_mtu() -> None:
    with Lab(lte=Profile(rate_down=1e7, rate_up=1e7, delay=0.001, mtu=1400)) as lab:
        for node in (lab.cpe, lab.hag):
            assert " mtu 1400 " in node.run(["ip", "link", "show", "lte"]).stdout


def test_dead_emulator_is_told() -> None:
    with Lab() as lab:
        lab.lte.emulator.process.stop()
        with pytest.raises(LabError, match="the emulator of access 'lte' ended with status -15"):
            lab.lte.stats()
