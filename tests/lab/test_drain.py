# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that is told to stop lets connections end by themselves, for as long as it is told to."""

import signal
import time
from collections.abc import Iterator

import pytest

from lab.access import Kind
from lab.daemons import Daemon, cpe_daemon, hag_daemon
from lab.snapshot import difference, snapshot
from lab.topology import Lab
from tests.lab.flows import FAMILIES, Flows, ending
from tests.running import until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def lab(lab_obstacle: str) -> Iterator[Lab]:
    if lab_obstacle:
        pytest.skip(lab_obstacle)
    with Lab(Kind.DIRECT) as lab:
        yield lab


def pair(lab: Lab, drain: int) -> tuple[Daemon, Daemon]:
    return cpe_daemon(lab, {"drain": drain}), hag_daemon(lab, {"drain": drain, "workers": 2})


@pytest.mark.parametrize("role", [pytest.param("cpe", marks=pytest.mark.full), "hag"])
def test_stops_when_the_last_connection_has_ended(lab: Lab, role: str) -> None:
    cpe, hag = pair(lab, 30)
    daemon, other = (cpe, hag) if role == "cpe" else (hag, cpe)
    before = snapshot(daemon.node, daemon.run_dir)
    hag.start()
    cpe.start()
    with Flows(lab) as flows:
        old = [flows.open(family) for family in FAMILIES]
        assert all(flow.bonded_by(cpe) and flow.bonded_by(hag) for flow in old)
        logged = len(daemon.log)
        daemon.process.signal(signal.SIGTERM)
        told = "stopping: connections have 30 s to end by themselves"
        until(lambda: told in daemon.log[logged:], "it is told to stop")
        new = flows.open(4)
        while new.bonded_by(other):  # the workers are told a moment after the log
            old.append(new)
            new = flows.open(4)
        for flow in old:
            flow.exchange(1 << 20)
            flow.end(first=flow.client)
        assert daemon.process.wait(2.0) == 0
        new.exchange()
        assert difference(before, snapshot(daemon.node, daemon.run_dir)) == []
    assert [line for line in daemon.log.splitlines() if "ERROR" in line] == []
    other.kill(signal.SIGINT)


@pytest.mark.full
@pytest.mark.parametrize("role", ["cpe", "hag"])
def test_resets_what_is_left_when_the_time_is_over(lab: Lab, role: str) -> None:
    cpe, hag = pair(lab, 2)
    daemon, other = (cpe, hag) if role == "cpe" else (hag, cpe)
    hag.start()
    cpe.start()
    with Flows(lab) as flows:
        old = [flows.open(family) for family in FAMILIES]
        start = time.monotonic()
        assert daemon.stop() == 0
        assert 2.0 <= time.monotonic() - start < 4.0
        assert [(ending(flow.client), ending(flow.server)) for flow in old] == [("RST", "RST")] * 2
    assert other.stop() == 0


@pytest.mark.full
def test_told_twice_it_stops_at_once(lab: Lab) -> None:
    cpe, hag = pair(lab, 30)
    hag.start()
    cpe.start()
    with Flows(lab) as flows:
        old, logged = flows.open(6), len(cpe.log)
        cpe.process.signal(signal.SIGTERM)
        until(lambda: "stopping: " in cpe.log[logged:], "it is told to stop")
        assert cpe.kill(signal.SIGTERM) == 0
        assert (ending(old.client), ending(old.server)) == ("RST", "RST")
    assert hag.stop() == 0
