# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules and routes that others take out come back, in a real network namespace."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from common.loop import Loop
from common.routing import PROTOCOL, Routing
from common.system import Unavailable
from hag.upkeep import Upkeep
from lab.netns import Namespace
from tests.running import PATIENCE

pytestmark = pytest.mark.root

TABLE, PRIORITY = 7200, 720


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def turn_until(loop: Loop, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE

    def look() -> None:
        if condition():
            loop.stop()
            return
        assert time.monotonic() < deadline
        loop.call_later(0.005, look)

    loop._running = True  # again
    look()
    loop.run()


def listed(namespace: Namespace) -> list[str]:
    kinds = ("-4 rule", "-6 rule", f"-4 route show table {TABLE}", f"-6 route show table {TABLE}")
    return [namespace.run(["ip", *kind.split()]).stdout for kind in kinds]


@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize("lost", ["rule flush", "route flush table all"])
def test_what_is_taken_out_comes_back(
    namespace: Namespace, loop: Loop, family: str, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    namespace.configure(["link set lo up", "rule add from 192.0.2.0/24 lookup 99 priority 700"])
    with closing(Routing()) as routing:

        def put() -> None:
            routing.deliver_marked(TABLE, PRIORITY)
            routing.replay_marked(TABLE, PRIORITY)

        with closing(Upkeep(loop, put)):
            before = listed(namespace)
            assert all(before)
            namespace.run(["ip", family, *lost.split(), "proto", str(PROTOCOL)])
            assert listed(namespace) != before
            turn_until(loop, lambda: listed(namespace) == before)
            assert len(caplog.messages) == 1


@pytest.mark.usefixtures("namespace")
def test_what_the_kernel_refuses_is_tried_again(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def put() -> None:
        tries.append(loop.now())
        if 1 < len(tries) < 4:
            raise Unavailable("not now")

    monkeypatch.setattr("hag.upkeep._AGAIN", 0.001)
    with closing(Upkeep(loop, put)) as upkeep:
        monkeypatch.setattr(upkeep._guard, "changed", lambda: True)
        upkeep._on_loss()
        upkeep._on_loss()
        turn_until(loop, lambda: len(tries) == 4 and upkeep._timer is None)
