# SPDX-License-Identifier: GPL-2.0-or-later
"""Each daemon is killed in turn: new connections pass unbonded at once, and are bonded again after its restart."""

import socket

from lab.bonded import Pair
from lab.connect import answers, connect
from lab.daemons import Daemon
from lab.scenario import Bound, Figures, Progress, Scenario
from lab.servers import TcpServer

TRIES = 5  # connections after each kill


def run(family: int, progress: Progress) -> Figures:
    with Pair() as pair:
        server = TcpServer(pair.lab.server, "echo")
        figures: Figures = {}
        bonded_again, reset = True, True
        for daemon in (pair.cpe, pair.hag):
            progress(f"killing {daemon.name}, IPv{family}")
            old, _ = connect(pair.lab, family, server.port)
            answers(old)
            daemon.kill_all()
            figures[f"connect_ms_{daemon.role}_dead"] = slowest(pair, family, server.port)
            reset = reset and ends_with_reset(old)
            progress(f"restarting {daemon.name}, IPv{family}")
            daemon.start()
            bonded_again = bonded_again and bonds(pair, daemon, family, server.port)
        return {**figures, "bonded_after_restart": bonded_again, "old_connections_reset": reset}


def slowest(pair: Pair, family: int, port: int) -> float:
    """Milliseconds of the slowest of some connections, each of which also carries data both ways."""
    times = []
    for _ in range(TRIES):
        connection, milliseconds = connect(pair.lab, family, port)
        answers(connection)
        connection.close()
        times.append(milliseconds)
    return round(max(times), 2)


def bonds(pair: Pair, daemon: Daemon, family: int, port: int) -> bool:
    """Whether a new connection is bonded on both boxes."""
    before = pair.bonded(), pair.bonded(pair.hag)
    connection, _ = connect(pair.lab, family, port)
    answers(connection)
    after = pair.bonded(), pair.bonded(pair.hag)
    connection.close()
    return all(later == sooner + 1 for sooner, later in zip(before, after, strict=True))


def ends_with_reset(connection: socket.socket) -> bool:
    """Whether the connection was reset; an orderly end, or none, would be a lie about what has arrived."""
    try:
        connection.recv(1)
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    finally:
        connection.close()
    return False


def scenario(connect_ms: float, slow: Scenario | None = None) -> Scenario:
    """A connection may take so long; one round trip over the primary access takes 30 ms."""
    return Scenario(
        name="fail-open",
        summary="a daemon is killed: connections go on unbonded, and bonded again after its restart",
        run=run,
        bounds=(
            Bound("connect_ms_cpe_dead", at_most=connect_ms),
            Bound("connect_ms_hag_dead", at_most=connect_ms),
            Bound("bonded_after_restart", at_least=1),
            Bound("old_connections_reset", at_least=1),
        ),
        slow=slow,
    )


# A SYN that had to be sent twice would take over a second; on a slow machine that is all that can be told.
SCENARIO = scenario(100, slow=scenario(900))
