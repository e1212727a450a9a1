# SPDX-License-Identifier: GPL-2.0-or-later
"""Ten thousand connections that are open at the same time, and what the boxes hold for them."""

import pytest

from bench.footprint import footprint
from lab.access import Kind
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.crowd import Crowd
from lab.servers import TcpServer
from tests.running import until

pytestmark = [pytest.mark.root, pytest.mark.full]

CONNECTIONS = 10_000
TALKING = 5_000
WORKERS = 2  # each may have as many connections as it has descriptors for
NEW = 20


@pytest.mark.parametrize("family", [4, 6])
def test_they_stay_and_new_ones_are_served(family: int) -> None:
    workers = {"workers": WORKERS}
    with Pair(
        Kind.DIRECT, cpe_options=workers, hag_options={**workers, "max_flows_per_subscriber": 2 * CONNECTIONS}
    ) as pair:
        server = TcpServer(pair.lab.server)
        daemons = (pair.cpe, pair.hag)
        with Crowd(pair.lab, family, server.port) as crowd:
            crowd.open(CONNECTIONS)
            crowd.exchange()
            for daemon in daemons:
                status = daemon.status()
                assert status["flows"] == CONNECTIONS
                assert status["counters"] == {"opened: bonded": CONNECTIONS}
                assert footprint(daemon.node.pids()).pipes == 0
            with crowd.speaking(TALKING, 2500.0):
                for _ in range(NEW):
                    connection, _ = connect(pair.lab, family, server.port)
                    with connection:
                        answers(connection)
            assert len(crowd.exchange()) == CONNECTIONS
        for daemon in daemons:
            until(lambda daemon=daemon: not daemon.status()["flows"], "all are gone")  # type: ignore[misc]
            assert daemon.status()["counters"]["opened: bonded"] == CONNECTIONS + NEW
            assert "Traceback" not in daemon.log
