# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that may wait does so for what is not there yet, tells what it is, and is no trouble meanwhile."""

import signal
from collections.abc import Iterator

import pytest

from ctl.inquiry import Unreachable, ask
from lab.access import Kind
from lab.daemons import cpe_daemon, hag_daemon
from lab.snapshot import difference, snapshot
from lab.topology import Lab
from tests.lab.flows import Flows
from tests.lab.starts import background
from tests.running import until

pytestmark = [pytest.mark.root, pytest.mark.full]


@pytest.fixture(scope="module")
def lab(lab_obstacle: str) -> Iterator[Lab]:
    if lab_obstacle:
        pytest.skip(lab_obstacle)
    with Lab(Kind.DIRECT) as lab:
        yield lab


def answer(run_dir: object, role: str) -> str:
    """Why there is no answer; empty if there is one."""
    try:
        ask(role, run_dir, "status")  # type: ignore[arg-type]
    except Unreachable as reason:
        return str(reason)
    return ""


def test_a_device_that_comes_later(lab: Lab) -> None:
    hag, cpe = hag_daemon(lab), cpe_daemon(lab, {"lan": ["lan", "late"]})
    hag.start()
    before = snapshot(cpe.node, cpe.run_dir)
    process = background(cpe, arguments=["--wait"])
    reason = "there is no device 'late' (option 'lan')"
    told = f"hybrid-cpe does not answer 'status': it is waiting: {reason}"
    until(lambda: answer(cpe.run_dir, "cpe") == told, "it waits")
    with Flows(lab) as flows:
        assert not flows.open(4).bonded_by(hag)
        cpe.node.configure(["link add late type bridge"])
        until(lambda: answer(cpe.run_dir, "cpe") == "", "it works")
        assert flows.open(4).bonded_by(hag)
    assert process.output().count(f"WARNING: waiting, connections pass unbonded: {reason}") == 1
    process.signal(signal.SIGTERM)
    assert process.wait(10.0) == 0
    assert hag.stop() == 0
    cpe.node.configure(["link del late"])
    assert difference(before, snapshot(cpe.node, cpe.run_dir)) == []


def test_told_to_stop(lab: Lab) -> None:
    daemon = hag_daemon(lab, {"join_device": "late"})
    before = snapshot(daemon.node, daemon.run_dir)
    process = background(daemon, arguments=["--wait"])
    until(lambda: "waiting" in answer(daemon.run_dir, "hag"), "it waits")
    process.signal(signal.SIGTERM)
    assert process.wait(10.0) == 0
    assert difference(before, snapshot(daemon.node, daemon.run_dir)) == []


def test_for_another_daemon(lab: Lab) -> None:
    """Which goes on and answers, undisturbed."""
    daemon = hag_daemon(lab)
    daemon.start()
    process = background(daemon, arguments=["--wait"])
    until(lambda: "waiting, connections pass unbonded: hybrid-hag runs already" in process.output(), "it waits")
    assert daemon.status()["pid"] == daemon.process.pid
    assert daemon.stop() == 0
    until(lambda: answer(daemon.run_dir, "hag") == "", "it takes over")
    assert daemon.status()["pid"] == process.pid
    process.signal(signal.SIGTERM)
    assert process.wait(10.0) == 0
