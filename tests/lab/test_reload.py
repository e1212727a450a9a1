# SPDX-License-Identifier: GPL-2.0-or-later
"""A configuration that is read again: what differs changes, what is open goes on, and what is wrong changes nothing."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from lab.access import Kind
from lab.daemons import SUBSCRIBERS, Daemon, cpe_daemon, hag_daemon
from lab.snapshot import Snapshot, difference, snapshot
from lab.topology import Lab
from tests.lab.flows import FAMILIES, PORT, Flow, Flows
from tests.running import until

pytestmark = pytest.mark.root

BYPASS = f"config bypass 'echo'\n list dport '{PORT}'\n"
ROLES = ("cpe", "hag")


@pytest.fixture(scope="module")
def lab(lab_obstacle: str) -> Iterator[Lab]:
    if lab_obstacle:
        pytest.skip(lab_obstacle)
    with Lab(Kind.DIRECT) as lab:
        yield lab


@pytest.fixture(scope="module")
def daemons(lab: Lab) -> Iterator[dict[str, Daemon]]:
    daemons = {"cpe": cpe_daemon(lab), "hag": hag_daemon(lab, {"workers": 2})}
    daemons["hag"].start()
    daemons["cpe"].start()
    yield daemons
    assert [daemon.stop() for daemon in daemons.values()] == [0, 0]


def look(daemon: Daemon) -> Snapshot:
    return snapshot(daemon.node, daemon.run_dir)


def reload(daemon: Daemon, configuration: str) -> dict[str, Any]:
    daemon.configure(configuration)
    return daemon.control("reload")


def bonded(flow: Flow, daemons: dict[str, Daemon]) -> bool:
    return all(flow.bonded_by(daemon) for daemon in daemons.values())


def test_what_differs_changes_and_open_connections_go_on(lab: Lab, daemons: dict[str, Daemon]) -> None:
    """First the router's configuration and back, then the gateway's."""
    cpe, hag = daemons["cpe"], daemons["hag"]
    texts = {role: daemon.config_file.read_text() for role, daemon in daemons.items()}
    before = {role: look(daemon) for role, daemon in daemons.items()}
    fewer = texts["hag"].replace(SUBSCRIBERS[1], "2001:db8:1fff::/48")
    closed = fewer + "\tlist protect '203.0.113.10'\n"
    with Flows(lab) as flows:
        old = [flows.open(family) for family in FAMILIES]
        assert all(bonded(flow, daemons) for flow in old)
        assert reload(cpe, texts["cpe"] + BYPASS) == {"changed": ["config bypass"], "errors": []}
        assert not any(flows.open(family).bonded_by(hag) for family in FAMILIES)
        assert cpe.status()["counters"]["passed: bypass 'echo'"] == 2
        assert difference(before["cpe"], look(cpe)) == []
        assert reload(cpe, texts["cpe"]) == {"changed": ["config bypass"], "errors": []}

        assert reload(hag, closed) == {"changed": ["list subscriber", "list protect"], "errors": []}
        assert not any(flows.open(family).bonded_by(cpe) for family in FAMILIES)
        counters = hag.status()["counters"]
        assert (counters["passed: protected destination"], counters["passed: not a subscriber"]) == (1, 1)
        assert any("203.0.113.10" in line for line in difference(before["hag"], look(hag)))
        assert reload(hag, texts["hag"]) == {"changed": ["list subscriber", "list protect"], "errors": []}
        assert difference(before["hag"], look(hag)) == []
        assert all(bonded(flows.open(family), daemons) for family in FAMILIES)
        for flow in old:
            flow.exchange(1 << 20)
            assert bonded(flow, daemons)


def test_what_is_wrong_changes_nothing(lab: Lab, daemons: dict[str, Daemon]) -> None:
    for role, daemon in daemons.items():
        right = daemon.config_file.read_text()
        before = look(daemon)
        first = "lan" if role == "cpe" else "access"
        for wrong in (
            right[: len(right) // 2] + "\n\toption",  # half-written
            right + "\toption nonsense '1'\n",
            right + f"\nconfig {role} 'second'\n",
            right.replace(f"list {first} '", f"list {first} 'x"),  # a device that is not there
            right.replace("option drain '0'", "option drain '5'\n\toption queue '7000'"),
        ):
            answer = reload(daemon, wrong)
            assert answer["changed"] == []
            assert f"ERROR: the configuration stays as it was: {answer['errors'][0]}" in daemon.log
        assert answer["errors"] == ["cannot change while the daemon runs, restart it: option queue"]
        assert difference(before, look(daemon)) == []
        assert reload(daemon, right) == {"changed": [], "errors": []}
    with Flows(lab) as flows:
        assert bonded(flows.open(4), daemons)


@pytest.mark.full
def test_a_worker_of_later_goes_by_it_too(lab: Lab, daemons: dict[str, Daemon]) -> None:
    cpe, text = daemons["cpe"], daemons["cpe"].config_file.read_text()
    logged = len(cpe.log)
    cpe.configure(text + BYPASS)
    cpe.process.signal(signal.SIGHUP)
    until(lambda: "read again; changed: config bypass" in cpe.log[logged:], "it is read again")
    victim = cpe.status()["workers"][0]["pid"]
    os.kill(victim, signal.SIGKILL)
    until(lambda: [it["pid"] for it in cpe.status()["workers"]] not in ([], [victim]), "it is replaced")
    with Flows(lab) as flows:
        assert not flows.open(6).bonded_by(daemons["hag"])
    reload(cpe, text)


@pytest.mark.full
def test_limits_and_places(lab: Lab, daemons: dict[str, Daemon]) -> None:
    cpe, text = daemons["cpe"], daemons["cpe"].config_file.read_text()
    with Flows(lab) as flows:
        flows.open(4)
        changed = text.replace("option drain '0'", "option drain '0'\n\toption max_flows '1'")
        assert reload(cpe, changed)["changed"] == ["option max_flows"]
        assert not flows.open(4).bonded_by(cpe)
        changed = changed.replace("list lan 'lan'", "list lan 'guest'").replace("max_flows '1'", "max_flows '9'")
        assert reload(cpe, changed)["changed"] == ["list lan", "option max_flows"]
        assert not flows.open(6).bonded_by(cpe)
        assert reload(cpe, text)["changed"] == ["list lan", "option max_flows"]
        assert flows.open(6).bonded_by(cpe)
