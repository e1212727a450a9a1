# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that is told to stop leaves the box as it found it, and every peer knows that its connection is over."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.access import Kind
from lab.daemons import Daemon, cpe_daemon, hag_daemon
from lab.snapshot import Snapshot, difference, snapshot
from lab.topology import Lab
from tests.lab import neighbours
from tests.lab.flows import FAMILIES, Flows, endings, opened, workers
from tests.lab.starts import background
from tests.running import until

pytestmark = pytest.mark.root

ROLES = ("cpe", "hag")
AT_MOST = 2.0  # seconds that a stop may take


@pytest.fixture(scope="module")
def lab(lab_obstacle: str) -> Iterator[Lab]:
    if lab_obstacle:
        pytest.skip(lab_obstacle)
    with Lab(Kind.DIRECT) as lab:
        neighbours.move_in(lab.cpe)
        neighbours.move_in(lab.hag)
        yield lab


@pytest.fixture(scope="module")
def daemons(lab: Lab) -> dict[str, Daemon]:
    return {"cpe": cpe_daemon(lab, {"join_after": 0}), "hag": hag_daemon(lab, {"workers": 2})}


@pytest.fixture(scope="module")
def before(daemons: dict[str, Daemon]) -> dict[str, Snapshot]:
    return {role: snapshot(daemon.node, daemon.run_dir) for role, daemon in daemons.items()}


@pytest.fixture
def running(daemons: dict[str, Daemon], before: dict[str, Snapshot]) -> dict[str, Daemon]:
    """Both daemons; those that the test before has stopped are started again."""
    for role in ("hag", "cpe"):
        if not daemons[role].answers():
            daemons[role].start()
    return daemons


def stopped(daemon: Daemon, number: int) -> float:
    """Stops it with that signal, expects that it ends well, gives the seconds that it took."""
    start = time.monotonic()
    assert daemon.kill(number) == 0
    return time.monotonic() - start


@pytest.mark.parametrize("role", ROLES)
def test_interrupt(running: dict[str, Daemon], before: dict[str, Snapshot], role: str) -> None:
    daemon = running[role]
    assert difference(before[role], snapshot(daemon.node, daemon.run_dir))
    assert stopped(daemon, signal.SIGINT) < AT_MOST
    assert difference(before[role], snapshot(daemon.node, daemon.run_dir)) == []
    assert daemon.log.splitlines()[-1].endswith("INFO: stopping")


@pytest.mark.parametrize("role", ROLES)
def test_all_processes_are_told_at_once(running: dict[str, Daemon], before: dict[str, Snapshot], role: str) -> None:
    """As service managers do."""
    daemon = running[role]
    lines = len(daemon.log.splitlines())
    for pid in (*workers(daemon), daemon.process.pid):
        os.kill(pid, signal.SIGTERM)
    assert daemon.process.wait(AT_MOST) == 0
    assert difference(before[role], snapshot(daemon.node, daemon.run_dir)) == []
    assert [line for line in daemon.log.splitlines()[lines:] if "ERROR" in line] == []


@pytest.mark.parametrize("role", ROLES)
def test_open_flows_are_reset_and_new_ones_unbonded(
    lab: Lab, running: dict[str, Daemon], before: dict[str, Snapshot], role: str
) -> None:
    daemon = running[role]
    (other,) = (running[each] for each in ROLES if each != role)
    with opened(lab) as (flows, old):
        assert all(flow.bonded_by(daemon) and flow.bonded_by(other) for flow in old.values())
        assert stopped(daemon, signal.SIGTERM) < AT_MOST
        assert difference(before[role], snapshot(daemon.node, daemon.run_dir)) == []
        assert endings(old) == dict.fromkeys(old, ("RST", "RST"))
        assert not any(flows.open(family).bonded_by(other) for family in FAMILIES)


@pytest.mark.parametrize(("role", "port"), [("cpe", 4712), ("hag", 4713)])
def test_connection_that_still_waits_goes_on_with_its_next_syn(
    lab: Lab, running: dict[str, Daemon], before: dict[str, Snapshot], role: str, port: int
) -> None:
    daemon = running[role]
    lab.server.run(["nft", "-f", "-"], text=SILENCE)
    with lab.client.entered():
        client = socket.socket()
    with lab.server.entered():
        server = socket.create_server(("", port))
    with client, server:
        client.setblocking(False)
        client.connect_ex((lab.server.address("core", 4), port))
        until(lambda: held(running["hag"], port), "the SYN waits on both boxes")
        assert stopped(daemon, signal.SIGTERM) < AT_MOST
        lab.server.run(["nft", "delete", "table", "ip", "silence"])
        until(lambda: connected(client), "the next SYN is answered")
    assert difference(before[role], snapshot(daemon.node, daemon.run_dir)) == []


SILENCE = "table ip silence { chain input { type filter hook input priority 0; tcp dport 4712-4713 drop; }; }"


def held(daemon: Daemon, port: int) -> bool:
    flows: Any = daemon.control("flows")
    return any((flow["server_port"], flow["state"]) == (port, "held") for flow in flows)


def connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("told", ["changed from", "SYNs wait in"])
@pytest.mark.parametrize("role", ROLES)
def test_stop_while_it_starts(running: dict[str, Daemon], before: dict[str, Snapshot], role: str, told: str) -> None:
    """By what it has told so far: when settings are changed, when the rules are installed."""
    daemon = running[role]
    daemon.stop()
    process = background(daemon)
    until(lambda: told in process.output(), f"it tells: {told}")
    process.signal(signal.SIGTERM)
    assert process.wait(10.0) == 0
    assert difference(before[role], snapshot(daemon.node, daemon.run_dir)) == []


def test_hag_starts_again_at_once() -> None:
    """Where the server closed first, the HAG's end of a subflow waits for a minute in TIME_WAIT, at the join port."""
    with Lab(Kind.DIRECT) as lab, Flows(lab) as flows:
        cpe, hag = cpe_daemon(lab, {"join_after": 0}), hag_daemon(lab)
        hag.start()
        cpe.start()

        def leaves_time_wait() -> bool:
            """Which end of the subflow it is also depends on who is quicker."""
            flow = flows.open(4)
            until(lambda: (flow.known_to(cpe) or {}).get("subflows") == 2, "the flow has joined")
            flow.end(first=flow.server)
            until(lambda: hag.status()["flows"] == 0, "the flow has ended")
            return bool(hag.node.run(["ss", "-Htn", "state", "time-wait", "sport = :9001"]).stdout)

        until(leaves_time_wait, "one is in TIME_WAIT")
        assert hag.stop() == 0
        hag.start()
        assert flows.open(4).bonded_by(hag)
        hag.kill_all()  # the IPv6 listener stays: that is not one on the IPv4 address, which is still waited for
        hag.start()
        assert flows.open(4).bonded_by(hag)
