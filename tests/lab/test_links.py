# SPDX-License-Identifier: GPL-2.0-or-later
"""The primary link is lost, for all to see or in silence, and comes back: what becomes of connections, old and new."""

import socket
import time
from typing import Any

import pytest

from lab.access import Kind
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.servers import TcpServer

pytestmark = pytest.mark.root

HOLD = 1


def wait(what: Any, patience: float = 5.0) -> None:
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def links_of(pair: Pair) -> list[list[str]]:
    flows: Any = pair.cpe.control("flows")
    return [sorted(flow["links"]) for flow in flows]


def rules(pair: Pair) -> list[str]:
    """The router's, in any order: those of one priority are in the order in which they came."""
    return sorted(pair.lab.cpe.run(["ip", "rule"]).stdout.splitlines())


def opened(pair: Pair, family: int, port: int) -> socket.socket:
    connection, _ = connect(pair.lab, family, port)
    answers(connection)
    return connection


@pytest.mark.parametrize("family", [4, 6])
def test_the_primary_link_goes_and_comes_back(family: int) -> None:
    with Pair(Kind.DIRECT, cpe_options={"hold": HOLD, "join_after": 0}) as pair:
        port = TcpServer(pair.lab.server).port
        before = rules(pair)
        with opened(pair, family, port) as old:
            wait(lambda: links_of(pair) == [["lte", "xdsl"]])
            pair.lab.xdsl.cut()
            wait(lambda: links_of(pair) == [["lte"]])
            answers(old, 1_000_000)
            bonded = pair.bonded()
            if family == 4:  # the lab's gateway has no way back to an IPv6 network by way of LTE
                opened(pair, family, port).close()
                assert pair.bonded() == bonded
                assert "passed: primary link is down" in pair.cpe.status()["counters"]
            pair.lab.xdsl.restore()
            wait(lambda: links_of(pair) == [["lte", "xdsl"]])
            answers(old, 1_000_000)
        wait(lambda: rules(pair) == before)
        opened(pair, family, port).close()
        assert pair.bonded() == bonded + 1
        states = {link["name"]: (link["up"], link["reason"]) for link in pair.cpe.status()["links"]}
        assert states == {"xdsl": (True, None), "lte": (True, None)}
        assert "link xdsl is down: 'xdsl' is switched off" in pair.cpe.log
        events: Any = pair.cpe.control("events")
        of_links = [event for event in events if "link" in event and "steering" not in event]
        told = [(event["link"], event["level"], event.get("reason")) for event in of_links]
        # It may come back piece by piece, first without address or route.
        assert [it for it in told[2:] if it[2] is None or "'xdsl' has no" not in it[2]] == [
            ("xdsl", "warning", "'xdsl' is switched off"),
            ("lte", "warning", "xdsl is down: 'xdsl' is switched off"),
            ("xdsl", "info", None),
            ("xdsl", "info", "the primary link is up"),
        ]


@pytest.mark.full
def test_a_loss_that_nobody_shows() -> None:
    with Pair(cpe_options={"hold": HOLD, "join_after": 0}) as pair:
        port = TcpServer(pair.lab.server).port
        before = rules(pair)
        with opened(pair, 4, port) as old:
            wait(lambda: links_of(pair) == [["lte", "xdsl"]])
            wait(lambda: all(link["answers"] for link in links(pair)))
            bonded = pair.bonded()
            pair.lab.xdsl.blackhole(True)
            new, milliseconds = connect(pair.lab, 4, port)  # its SYN waits when the loss is found
            with new:
                answers(new)
            assert milliseconds < 1000
            assert pair.bonded() == bonded
            assert pair.cpe.status()["counters"]["passed: primary link is down"] == 1
            wait(lambda: links_of(pair) == [["lte"]])
            answers(old, 100_000)
            (xdsl, lte) = links(pair)
            assert xdsl["reason"].startswith("no answer from the HAG for ")
            assert lte["up"]
            pair.lab.xdsl.blackhole(False)
            wait(lambda: links_of(pair) == [["lte", "xdsl"]], 2.0)
            answers(old, 100_000)
        wait(lambda: rules(pair) == before)
        opened(pair, 4, port).close()
        assert pair.bonded() == bonded + 1


def links(pair: Pair) -> list[dict[str, Any]]:
    told: Any = pair.cpe.control("links")
    return list(told)
