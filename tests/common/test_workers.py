# SPDX-License-Identifier: GPL-2.0-or-later
"""How many workers there are, and what those to come know."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.blackholes import Blackholes
from common.entrance import Duty
from common.loop import Loop
from common.orphans import Orphans
from common.role import BOND, Role
from common.workers import Workers


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def processors() -> Iterator[set[int]]:
    """Those that this process may use; they are given back."""
    processors = os.sched_getaffinity(0)
    yield processors
    os.sched_setaffinity(0, processors)


def count(loop: Loop, configured: int | None, directory: Path) -> int:
    orphans = Orphans(directory / "workers")
    return Workers(loop, [], configured, None, None, lambda tokens: None, lambda: None, orphans, lambda text: []).count


def test_one_for_each_processor_that_we_may_use(loop: Loop, processors: set[int], tmp_path: Path) -> None:
    assert count(loop, None, tmp_path) == min(len(processors), 64)
    os.sched_setaffinity(0, {min(processors)})
    assert count(loop, None, tmp_path) == 1


def test_as_many_as_configured(loop: Loop, tmp_path: Path) -> None:
    assert [count(loop, configured, tmp_path) for configured in (1, 3, 64)] == [1, 3, 64]


def duty() -> Duty:
    role = Role(
        client_protocol=socket.IPPROTO_TCP,
        server_protocol=socket.IPPROTO_TCP,
        decide=lambda syn, device: BOND,
        source=lambda syn: (syn.source, syn.sport),
        host=lambda key: key[0],
        server_mark=0,
        strips=False,
        join_after=0,
        flow_buffer=0,
        experience=Blackholes(3),
    )
    return Duty(role, 4800, 4800, lambda worker: worker)


def test_what_has_been_found_out_outlives_the_configuration(loop: Loop, tmp_path: Path) -> None:
    first, later = duty(), duty()
    orphans = Orphans(tmp_path / "workers")
    workers = Workers(loop, [first], 1, None, None, lambda tokens: None, lambda: None, orphans, lambda text: [])
    workers.adopt("", [later], 7, None)
    ((kept, limits),) = workers._duties
    assert (kept.role.experience, limits.flows) == (first.role.experience, 7)
    workers._spread(0, 0, ["lost", "192.0.2.10", "203.0.113.1", 0.0, 3.0])
    assert first.role.experience is not None
    assert first.role.experience.avoid("192.0.2.11", "203.0.113.1", 4.0) is not None
