# SPDX-License-Identifier: GPL-2.0-or-later
"""Other programs take out what they do not know: what is ours comes back, what is theirs stays."""

import contextlib
import json
import re

import pytest

from common import table
from common.routing import PROTOCOL
from lab import firewall
from lab.access import Kind
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.node import Node
from lab.servers import TcpServer
from tests.lab.test_links import wait

pytestmark = [pytest.mark.root, pytest.mark.full]

FAMILIES = ("-4", "-6")
BEGAN = ("nft", "list", "map", "inet", table.NAME, "began")
FLUSHES = ("rule flush", "route flush table all")


def routing(node: Node) -> list[str]:
    """In any order: rules of one priority are in the order in which they came."""
    lists = [["ip", family, *what.split()] for family in FAMILIES for what in ("rule", "route show table all")]
    return sorted(line for command in lists for line in node.run(command).stdout.splitlines())


def test_a_ruleset_that_others_flush_comes_back() -> None:
    """As a firewall does when it is loaded again. What is sent meanwhile may cost its connection."""
    with Pair(Kind.DIRECT, hag_options={"inbound": 1}, cpe_options={"inbound": 1}) as pair:
        server = TcpServer(pair.lab.server)
        for node, daemon, rules in (
            (pair.lab.cpe, pair.cpe, firewall.CPE),
            (pair.lab.hag, pair.hag, firewall.HAG),
        ):
            old = [connect(pair.lab, family, server.port)[0] for family in (4, 6)]
            before = ruleset(node)
            node.run(["nft", "-f", "-"], text=f"flush ruleset\n{rules}")
            wait(lambda node=node, before=before: ruleset(node) == before)  # type: ignore[misc]
            if node is pair.lab.cpe:  # and what the links have filled since
                wait(lambda: "goto began_1" in pair.lab.cpe.run(BEGAN).stdout)
            for connection in old:
                answers(connection)
                connection.close()
            bonded = pair.bonded()
            for family in (4, 6):
                connect(pair.lab, family, server.port)[0].close()
            assert pair.bonded() == bonded + 2
            assert daemon.log.count("another program has taken out nftables' rules of ours") == 1


def ruleset(node: Node) -> list[str]:
    """Its chains and rules: what is in the sets comes and goes."""
    listed = json.loads(node.run(["nft", "--json", "list", "ruleset"]).stdout)["nftables"]
    rules = [it["rule"]["expr"] for it in listed if "rule" in it]
    chains = [it["chain"]["name"] for it in listed if "chain" in it]
    return sorted(re.sub(r'"(packets|bytes|seed)": \d+', "", json.dumps(it)) for it in (*chains, *rules))


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
            wait(lambda node=node, before=before: routing(node) == before)  # type: ignore[misc]
            for connection in old:
                answers(connection)
            bonded = pair.bonded()
            connect(pair.lab, 4, server.port)[0].close()
            assert pair.bonded() == bonded + 1
