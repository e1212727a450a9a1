# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemons that are killed: whose connections end and how, what goes on, and what the next daemon makes of it."""

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from lab.access import Kind
from lab.daemons import Daemon, cpe_daemon, hag_daemon
from lab.errors import LabError
from lab.snapshot import Snapshot, difference, snapshot
from lab.topology import Lab
from tests.lab import neighbours
from tests.lab.flows import FAMILIES, Flow, Flows, Traffic, ending, endings, opened, owner, workers
from tests.lab.starts import to_the_end
from tests.running import until

pytestmark = pytest.mark.root

ROLES = ("cpe", "hag")


@pytest.fixture(scope="module")
def lab(lab_obstacle: str) -> Iterator[Lab]:
    if lab_obstacle:
        pytest.skip(lab_obstacle)
    with Lab(Kind.DIRECT) as lab:
        neighbours.move_in(lab.cpe)
        neighbours.move_in(lab.hag)
        lab.accesses[0].cut()
        lab.accesses[0].restore()  # from now on its routes stand last, whenever that happens again
        yield lab


@pytest.fixture(scope="module")
def daemons(lab: Lab) -> dict[str, Daemon]:
    return {"cpe": cpe_daemon(lab, {"join_after": 0, "workers": 2}), "hag": hag_daemon(lab, {"workers": 2})}


@pytest.fixture(scope="module")
def before(daemons: dict[str, Daemon]) -> dict[str, Snapshot]:
    """The boxes before any daemon was there."""
    return {role: look(daemon) for role, daemon in daemons.items()}


@pytest.fixture
def running(daemons: dict[str, Daemon], before: dict[str, Snapshot]) -> dict[str, Daemon]:
    """Both daemons; those that the test before has ended are started again."""
    for role in ("hag", "cpe"):
        if not daemons[role].answers():
            daemons[role].start()
    return daemons


@pytest.fixture
def flows(lab: Lab) -> Iterator[Flows]:
    with Flows(lab) as flows:
        yield flows


def look(daemon: Daemon) -> Snapshot:
    return snapshot(daemon.node, daemon.run_dir)


def bonded(flow: Flow, daemons: dict[str, Daemon]) -> bool:
    return all(flow.bonded_by(daemon) for daemon in daemons.values())


def open_at_once(flows: Flows) -> list[Flow]:
    """A flow of each family, opened without a SYN being lost: its next copy comes after a second (RFC 6298)."""
    start = time.monotonic()
    opened = [flows.open(family) for family in FAMILIES]
    assert time.monotonic() - start < 1.0
    return opened


# All of a daemon is killed


@pytest.mark.parametrize("role", ROLES)
def test_killed_daemon_resets_its_flows(lab: Lab, running: dict[str, Daemon], role: str) -> None:
    with opened(lab) as (_, flows):
        assert all(bonded(flow, running) for flow in flows.values())
        running[role].kill_all()
        assert endings(flows) == dict.fromkeys(flows, ("RST", "RST"))


@pytest.mark.parametrize("role", ROLES)
def test_what_is_installed_is_replaced_and_in_the_end_gone(
    running: dict[str, Daemon], before: dict[str, Snapshot], role: str
) -> None:
    daemon = running[role]
    alive = look(daemon)
    assert difference(before[role], alive)
    for _ in range(2):  # what the second one finds is what the first one wrote over a crash
        daemon.kill_all()
        daemon.start()
        assert difference(alive, look(daemon)) == []
    assert daemon.stop() == 0
    assert difference(before[role], look(daemon)) == []


@pytest.mark.parametrize("role", ROLES)
def test_connections_of_the_outage_are_unbonded_and_survive_it(
    flows: Flows, running: dict[str, Daemon], role: str
) -> None:
    daemon = running[role]
    (other,) = (running[each] for each in ROLES if each != role)
    daemon.kill_all()
    outage = open_at_once(flows)
    assert not any(flow.bonded_by(other) for flow in outage)
    with contextlib.ExitStack() as stack:
        traffic = [stack.enter_context(Traffic(flow)) for flow in outage]
        daemon.start()
        for each in traffic:
            each.moves_on()
    for flow in outage:
        assert flow.known_to(daemon) is None
        flow.exchange()
    assert all(bonded(flows.open(family), running) for family in FAMILIES)


# One worker is killed


@pytest.mark.parametrize("family", FAMILIES)
def test_connections_of_one_client_to_one_server_are_everybodys(
    flows: Flows, running: dict[str, Daemon], family: int
) -> None:
    """A fair choice leaves one of two with less than a quarter in one of a million runs."""
    for _ in range(100):
        flows.open(family)
    for daemon in running.values():
        told = daemon.status()
        assert sum(worker["flows"] for worker in told["workers"]) == told["flows"] == 100
        assert min(worker["flows"] for worker in told["workers"]) >= 25


@pytest.mark.parametrize("role", ROLES)
def test_dead_worker_takes_only_its_own_flows(flows: Flows, running: dict[str, Daemon], role: str) -> None:
    daemon = running[role]
    victim, other = workers(daemon)
    every = [flows.open(family) for family in FAMILIES for _ in range(12)]
    owners = [owner(daemon, flow) for flow in every]
    assert set(owners) == {victim, other}
    spared = [flow for flow, pid in zip(every, owners, strict=True) if pid == other]

    with contextlib.ExitStack() as stack:
        traffic = [stack.enter_context(Traffic(flow)) for flow in spared[:: max(1, len(spared) // 4)]]
        for each in traffic:
            each.moves_on()
        os.kill(victim, signal.SIGKILL)
        outage = [flows.open(family) for family in FAMILIES for _ in range(4)]
        until(lambda: len(set(workers(daemon)) - {victim}) == 2, "the worker is replaced")
        for each in traffic:
            each.moves_on()
    assert other in workers(daemon)
    assert f"(process {victim}) has died: killed by SIGKILL" in daemon.log
    for flow, pid in zip(every, owners, strict=True):
        if pid == victim:
            assert (ending(flow.client), ending(flow.server)) == ("RST", "RST")
        else:
            flow.exchange()

    # Both the new worker and the old one get some.
    again = [flows.open(family) for family in FAMILIES for _ in range(12)]
    assert all(bonded(flow, running) for flow in again)
    assert {owner(daemon, flow) for flow in again} == set(workers(daemon))
    for flow in outage:
        flow.exchange()


@pytest.mark.parametrize("role", ROLES)
def test_workers_that_do_not_stay_alive(running: dict[str, Daemon], before: dict[str, Snapshot], role: str) -> None:
    daemon = running[role]
    victim, other = workers(daemon)
    hopeless = re.compile(r"worker \d+ does not stay alive")

    def replaced() -> set[int]:
        return set(workers(daemon)) - {victim, other}

    while not hopeless.search(daemon.log):
        os.kill(victim, signal.SIGKILL)
        found = until(lambda: replaced() or hopeless.search(daemon.log), "the worker is replaced, or not")
        victim = found.pop() if isinstance(found, set) else victim
    assert daemon.process.wait(10.0) == 70
    assert daemon.log.splitlines()[-1].endswith("ERROR: the workers do not stay alive")
    assert difference(before[role], look(daemon)) == []


# Nobody is started again


@pytest.mark.parametrize("role", ["cpe", pytest.param("hag", marks=pytest.mark.full)])
def test_clean_takes_out_what_is_left(running: dict[str, Daemon], before: dict[str, Snapshot], role: str) -> None:
    daemon = running[role]
    alive = look(daemon)
    clean(daemon)
    assert difference(alive, look(daemon)) == []  # a daemon runs, so nothing is left over
    daemon.kill_all()
    clean(daemon)
    assert difference(before[role], look(daemon)) == []


@pytest.mark.full
@pytest.mark.parametrize("role", ROLES)
def test_clean_leaves_what_connections_need(
    lab: Lab, flows: Flows, running: dict[str, Daemon], before: dict[str, Snapshot], role: str
) -> None:
    """All but what sends everything over LTE, as long as xDSL is down."""
    daemon = running[role]
    old = [flows.open(family) for family in FAMILIES]
    orphans = workers(daemon)
    assert all(bonded(flow, running) for flow in old)
    until(lambda: all(subflows(flow, running["cpe"]) == 2 for flow in old), "the flows have joined")
    if role == "cpe":
        lab.accesses[0].cut()
        until(lambda: detours(daemon) == 4, "everything goes over LTE")
    daemon.kill()
    clean(daemon)
    assert detours(daemon) == 0
    for flow in old:
        flow.exchange()
        flow.client.close()
    lab.accesses[0].restore()
    until(lambda: not set(orphans) & set(daemon.node.pids()), "the orphans leave with their last flow")
    clean(daemon)
    assert difference(before[role], look(daemon)) == []


def clean(daemon: Daemon) -> None:
    ended = to_the_end(daemon, arguments=["--clean"])
    assert (ended.status, ended.errors) == (0, [])


def detours(daemon: Daemon) -> int:
    """Rules of the CPE for everybody's packets, two for each family."""
    rules = "".join(daemon.node.run(["ip", family, "rule"]).stdout for family in ("-4", "-6"))
    return len(re.findall(r"^48[89]:", rules, re.MULTILINE))


# Control alone is killed


@pytest.mark.parametrize("role", ["hag", pytest.param("cpe", marks=pytest.mark.full)])
def test_a_start_that_fails_ends_no_orphans(flows: Flows, running: dict[str, Daemon], role: str) -> None:
    daemon = running[role]
    old = [flows.open(family) for family in FAMILIES]
    orphans = workers(daemon)
    daemon.kill()
    until(lambda: not look(daemon)["queues"], "the orphans take no more")
    with daemon.node.entered():
        taken = socket.create_server(("127.0.0.1", {"cpe": 4801, "hag": 4901}[role]))
    with taken, pytest.raises(LabError, match="is taken by another program"):
        daemon.start()
    for flow in old:
        flow.exchange()
    daemon.start()
    for flow in old:
        flow.exchange()
        flow.client.close()
    until(lambda: not set(orphans) & set(daemon.node.pids()), "the orphans leave with their last flow")


@pytest.mark.parametrize("role", ROLES)
def test_death_of_control_ends_nothing(flows: Flows, running: dict[str, Daemon], role: str) -> None:
    daemon = running[role]
    (other,) = (running[each] for each in ROLES if each != role)
    alive = look(daemon)
    old = [flows.open(family) for family in FAMILIES]
    orphans = workers(daemon)
    assert all(bonded(flow, running) for flow in old)
    with contextlib.ExitStack() as stack:
        traffic = [stack.enter_context(Traffic(flow)) for flow in old]
        for each in traffic:
            each.moves_on()
        daemon.kill()
        at_once = [flows.open(family) for family in FAMILIES]
        until(lambda: not look(daemon)["queues"], "the orphans take no more")
        outage = open_at_once(flows)
        assert not any(flow.bonded_by(other) for flow in outage)
        for each in traffic:
            each.moves_on()

        daemon.start()
        for each in traffic:
            each.moves_on()
        assert all(bonded(flows.open(family), running) for family in FAMILIES)
    for flow in (*old, *at_once, *outage):
        flow.exchange()

    assert set(orphans) & set(daemon.node.pids())
    for flow in (*old, *at_once):
        flow.client.close()
    until(lambda: not set(orphans) & set(daemon.node.pids()), "the orphans leave with their last flow")
    assert difference(alive, look(daemon)) == []


def test_subflows_outlive_control_of_the_hag(flows: Flows, running: dict[str, Daemon]) -> None:
    """The address where they have joined stays announced: a new daemon finds it and leaves it as it is."""
    flow = flows.open(4)
    until(lambda: subflows(flow, running["cpe"]) == 2, "the flow has joined")
    before = joined(running["hag"])
    assert before
    running["hag"].kill()
    running["hag"].start()
    assert joined(running["hag"]) == before
    flow.exchange()


def subflows(flow: Flow, daemon: Daemon) -> int:
    told = flow.known_to(daemon)
    return told["subflows"] if told else 0


def joined(hag: Daemon) -> set[str]:
    """The peers of subflows that have joined at the announced port."""
    lines = hag.node.run(["ss", "-Htn", "state", "established", "sport = :9001"]).stdout.splitlines()
    return {line.split()[3] for line in lines}


@pytest.mark.parametrize("role", ROLES)
def test_stop_takes_the_orphans_along(
    flows: Flows, running: dict[str, Daemon], before: dict[str, Snapshot], role: str
) -> None:
    """A stop takes away what brings packets to orphans too: it ends them, and their flows know that they are over."""
    daemon = running[role]
    old = [flows.open(family) for family in FAMILIES]
    orphans = workers(daemon)
    daemon.kill()
    daemon.start()
    try:
        assert daemon.stop() == 0
        assert difference(before[role], look(daemon)) == []
        assert [(ending(flow.client), ending(flow.server)) for flow in old] == [("RST", "RST")] * 2
    finally:
        for pid in set(orphans) & set(daemon.node.pids()):
            os.kill(pid, signal.SIGKILL)
