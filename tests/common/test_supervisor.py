# SPDX-License-Identifier: GPL-2.0-or-later
"""What a service manager gets to read, and what it had said in the environment."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.supervisor import Supervisor


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name if request.param == "path" else "\0" + name)
        listener.settimeout(1.0)
        yield listener, name if request.param == "path" else "@" + name


def test_what_it_is_told(listening: tuple[socket.socket, str]) -> None:
    listener, address = listening
    environment = {"NOTIFY_SOCKET": address, "HOME": "/"}
    supervisor = Supervisor(environment)
    assert environment == {"HOME": "/"}
    for tell, expected in (
        (lambda: supervisor.ready("bonding"), b"READY=1\nSTATUS=bonding"),
        (lambda: supervisor.status("3 connections"), b"STATUS=3 connections"),
        (supervisor.alive, b"WATCHDOG=1"),
        (lambda: supervisor.reloading(1.5, 30), b"RELOADING=1\nMONOTONIC_USEC=1500000"),
        (lambda: supervisor.stopping(2, "over"), b"STOPPING=1\nSTATUS=over\nEXTEND_TIMEOUT_USEC=2000000"),
        (lambda: supervisor.status("a\nREADY=1\x1b"), b"STATUS=a\\nREADY=1\\x1b"),
        (lambda: supervisor.status("x" * 600), b"STATUS=" + b"x" * 511 + "…".encode()),
    ):
        tell()
        assert listener.recv(4096) == expected


def test_the_watchdog_waits_as_long_as_it_is_told(listening: tuple[socket.socket, str]) -> None:
    listener, address = listening
    supervisor = Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "5000000"})
    supervisor.busy(60)
    supervisor.reloading(1.5, 30)
    supervisor.ready("bonding")
    assert listener.recv(4096) == b"WATCHDOG=1\nWATCHDOG_USEC=60000000"
    assert listener.recv(4096) == b"RELOADING=1\nMONOTONIC_USEC=1500000\nWATCHDOG=1\nWATCHDOG_USEC=30000000"
    assert listener.recv(4096) == b"READY=1\nSTATUS=bonding\nWATCHDOG=1\nWATCHDOG_USEC=5000000"


def test_where_there_is_no_watchdog_none_is_set(listening: tuple[socket.socket, str]) -> None:
    listener, address = listening
    supervisor = Supervisor({"NOTIFY_SOCKET": address})
    supervisor.busy(60)
    supervisor.status("it was not told of one")
    assert listener.recv(4096) == b"STATUS=it was not told of one"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "vsock:2:1"])
def test_nobody_listens(address: str) -> None:
    Supervisor({"NOTIFY_SOCKET": address} if address else {}).ready("bonding")


@pytest.mark.parametrize(
    ("environment", "watchdog"),
    [
        ({"WATCHDOG_USEC": "5000000"}, 5.0),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog(environment: dict[str, str], watchdog: float | None) -> None:
    assert Supervisor(environment).watchdog == watchdog
