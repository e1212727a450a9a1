# SPDX-License-Identifier: GPL-2.0-or-later
"""Other programs take out what they do not know: rules and routes of ours are back within a second, theirs stay."""

import contextlib

import pytest

from common.routing import PROTOCOL
from lab.access import Kind
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.node import Node
from lab.servers import TcpServer
from tests.lab.test_links import wait

pytestmark = [pytest.mark.root, pytest.mark.full]

FAMILIES = ("-4", "-6")
FLUSHES = ("rule flush", "route flush table all")
WITHIN = 1.0  # seconds


def routing(node: Node) -> list[str]:
    """In any order: rules of one priority are in the order in which they came."""
    lists = [["ip", family, *what.split()] for family in FAMILIES for what in ("rule", "route show table all")]
    return sorted(line for command in lists for line in node.run(command).stdout.splitlines())


def test_rules_and_routes_that_others_take_out_come_back() -> None:
    with Pair(Kind.DIRECT) as pair, contextlib.ExitStack() as undo:
        server = TcpServer(pair.lab.server)
        old = [undo.enter_context(connect(pair.lab, family, server.port)[0]) for family in (4, 6)]
        for node in (pair.lab.cpe, pair.lab.hag):
            node.configure(
                ["rule add from 198.18.0.0/15 lookup 99 priority 30000", "route add default dev lo table 99"]
            )
            before = routing(node)
            for flush in FLUSHES:
                for family in FAMILIES:
                    node.run(["ip", family, *flush.split(), "proto", str(PROTOCOL)])
            wait(lambda node=node, before=before: routing(node) == before, WITHIN)  # type: ignore[misc]
            for connection in old:
                answers(connection)
            bonded = pair.bonded()
            connect(pair.lab, 4, server.port)[0].close()
            assert pair.bonded() == bonded + 1
