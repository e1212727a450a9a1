# SPDX-License-Identifier: GPL-2.0-or-later
"""What others take out comes back, in a real network namespace."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from common import table
from common.loop import Loop
from common.routing import PROTOCOL, Routing
from common.system import SystemLacks, Unavailable
from common.table import TableGuard
from common.upkeep import Upkeep
from common.watch import Guard
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
def test_rules_and_routes(
    namespace: Namespace, loop: Loop, family: str, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    namespace.configure(["link set lo up", "rule add from 192.0.2.0/24 lookup 99 priority 700"])
    with closing(Routing()) as routing:

        def put() -> None:
            routing.deliver_marked(TABLE, PRIORITY)
            routing.replay_marked(TABLE, PRIORITY)

        put()
        with closing(Upkeep(loop, Guard(), "rules or routes", put)):
            before = listed(namespace)
            assert all(before)
            namespace.run(["ip", family, *lost.split(), "proto", str(PROTOCOL)])
            assert listed(namespace) != before
            turn_until(loop, lambda: listed(namespace) == before)
            assert len(caplog.messages) == 1


def test_the_table(namespace: Namespace, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """It gives way to itself when it is put in, and others' may come and go: neither is a loss."""
    text = f"add table inet {table.NAME}; delete table inet {table.NAME}; add table inet {table.NAME}"
    puts, looks = [], []

    def put() -> None:
        puts.append(text)
        namespace.run(["nft", text])

    def gone() -> bool:
        looks.append(table.gone())
        return looks[-1]

    put()
    with closing(Upkeep(loop, TableGuard(), "rules", put, gone)):
        namespace.run(["nft", f"add table ip {table.NAME}; add table inet other"])
        for flush in (f"delete table inet {table.NAME}", "flush ruleset"):
            namespace.run(["nft", flush])
            turn_until(loop, lambda: looks[-2:] == [True, False])
            looks.clear()
            assert not table.gone()
    assert len(puts) == 3
    assert len(caplog.messages) == 2


def test_others_tables_are_no_news(namespace: Namespace) -> None:
    with closing(TableGuard()) as guard:
        for name in (f"ip {table.NAME}", "inet other", f"inet {table.NAME}"):
            namespace.run(["nft", f"add table {name}"])
            namespace.run(["nft", f"delete table {name}"])
            assert guard.changed() == (name == f"inet {table.NAME}")


@pytest.mark.usefixtures("namespace")
def test_what_the_kernel_refuses_is_tried_again(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def put() -> None:
        tries.append(loop.now())
        if len(tries) < 3:
            raise Unavailable("not now")

    monkeypatch.setattr("common.upkeep._AGAIN", 0.001)
    with closing(Upkeep(loop, Guard(), "rules", put)) as upkeep:
        monkeypatch.setattr(upkeep._guard, "changed", lambda: True)
        upkeep._on_loss()
        upkeep._on_loss()
        turn_until(loop, lambda: len(tries) == 3 and upkeep._timer is None)


@pytest.mark.usefixtures("namespace")
def test_what_was_put_in_by_half_is_put_in_again_though_it_seems_to_be_there(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there: list[str] = []
    tries = []

    def put() -> None:
        tries.append(list(there))
        there[:] = ["table"]
        if len(tries) < 3:
            raise SystemLacks("cannot run nft: Cannot allocate memory")
        there.append("queue")

    monkeypatch.setattr("common.upkeep._AGAIN", 0.001)
    with closing(Upkeep(loop, TableGuard(), "rules", put, lambda: "table" not in there)) as upkeep:
        monkeypatch.setattr(upkeep._guard, "changed", lambda: True)
        upkeep._on_loss()
        turn_until(loop, lambda: upkeep._timer is None)
        assert there == ["table", "queue"]
        assert len(caplog.messages) == 3  # one that it is out, two that it is tried again
        upkeep._on_loss()
        turn_until(loop, lambda: upkeep._timer is None)
        assert len(tries) == 3  # and now that it is there, it is left alone
