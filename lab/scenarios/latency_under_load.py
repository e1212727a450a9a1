# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a small request takes while a bulk transfer fills the bond, and what of the wait is whose.

A request is a connection of its own: from the SYN to the last byte of the answer. Three are compared with what they
take on idle accesses:

    loaded    the pair's, beside a bonded transfer
    access    forwarded past the daemons, beside the same transfer: it waits in the access's queue alone
    plain     forwarded, beside a transfer that is forwarded over the primary access: what it is without the pair

The accesses' queues take 150 ms when they are full. How full they are is the senders' congestion control's doing.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from common.transparent import FLOW_BUFFER
from lab.access import WAYS, Way
from lab.bonded import Pair
from lab.connect import answers, connect
from lab.daemons import Daemon
from lab.goodput import PORT, bulk
from lab.scenario import Bound, Figures, Progress, Scenario
from lab.scenarios.failover import percentile
from lab.scenarios.steering_matrix import megabits
from lab.servers import TcpServer
from lab.topology import Lab

IDLE: Final = 40  # requests of each kind on idle accesses
LOADED: Final = 100  # beside a transfer
SETTLES: Final = 3.0  # seconds until the transfer fills the accesses
PAUSE: Final = 0.05  # seconds between two requests
LOOK: Final = 10  # requests between two looks at what the boxes hold


@dataclass(slots=True)
class Times:
    """Milliseconds of requests, by the device of the client that they went out of: 'lan' is bonded, 'guest' is not."""

    lan: list[float]
    guest: list[float]


def run(family: int, progress: Progress) -> Figures:
    plain = {}
    with Lab() as lab:
        server = TcpServer(lab.server)
        idle = list(requests(lab, family, server.port, "lan", IDLE))
        for way in WAYS:
            progress(f"requests beside a transfer {way}, plain forwarding over xdsl, IPv{family}")
            with bulk(lab, family, way):
                time.sleep(SETTLES)
                plain[way] = added(list(requests(lab, family, server.port, "lan", LOADED)), idle)
    rows = []
    with Pair() as pair:
        server = TcpServer(pair.lab.server)
        progress(f"requests on idle accesses, IPv{family}")
        idle = list(requests(pair.lab, family, server.port, "lan", IDLE))
        unbonded = list(requests(pair.lab, family, server.port, "guest", IDLE))
        for way in WAYS:
            progress(f"requests beside a transfer {way}, bonded, IPv{family}")
            times, held, rate = beside(pair, family, way, server.port)
            rows.append(
                {
                    "direction": way,
                    "family": family,
                    "goodput_mbps": megabits(rate),
                    "idle_ms_p50": percentile(idle, 50),
                    "loaded_ms_p50": percentile(times.lan, 50),
                    "loaded_ms_p95": percentile(times.lan, 95),
                    **named("added", added(times.lan, idle)),
                    **named("access_added", added(times.guest, unbonded)),
                    **named("plain_added", plain[way]),
                    **{f"{role}_held_bytes": most for role, most in held.items()},
                }
            )
    return {
        "rows": rows,
        "added_ms_p50": max(row["added_ms_p50"] for row in rows),
        "added_ms_p95": max(row["added_ms_p95"] for row in rows),
        "held_bytes": max(row[name] for row in rows for name in ("cpe_held_bytes", "hag_held_bytes")),
    }


def beside(pair: Pair, family: int, way: Way, port: int) -> tuple[Times, dict[str, int], float]:
    """Of requests beside a bonded transfer: their times, the most that each box held of it, and its bit/s."""
    lan, guest, held = [], [], {"cpe": 0, "hag": 0}
    with bulk(pair.lab, family, way) as flow:
        time.sleep(SETTLES)
        began = time.monotonic()
        bonded = requests(pair.lab, family, port, "lan", LOADED)
        forwarded = requests(pair.lab, family, port, "guest", LOADED)
        for number, (one, other) in enumerate(zip(bonded, forwarded, strict=True)):
            lan.append(one)
            guest.append(other)
            if number % LOOK == 0:
                held = {daemon.role: max(held[daemon.role], holds(daemon)) for daemon in (pair.cpe, pair.hag)}
        rate = flow.rate(began, time.monotonic())
    return Times(lan, guest), held, rate


def holds(daemon: Daemon) -> int:
    """Bytes of the transfer on this box, as `hybridctl flows` shows them."""
    flows: Any = daemon.control("flows")
    return max(int(flow["up_held"] + flow["down_held"]) for flow in flows if flow["server_port"] == PORT)


def requests(lab: Lab, family: int, port: int, device: str, count: int) -> Iterator[float]:
    for _ in range(count):
        start = time.perf_counter()
        connection, _ = connect(lab, family, port, device)
        with connection:
            answers(connection)
            milliseconds = (time.perf_counter() - start) * 1000
        yield milliseconds
        time.sleep(PAUSE)


def added(loaded: list[float], idle: list[float]) -> tuple[float, float]:
    """What the median and the 95th percentile exceed the idle median by."""
    base = percentile(idle, 50)
    return round(percentile(loaded, 50) - base, 1), round(percentile(loaded, 95) - base, 1)


def named(what: str, figures: tuple[float, float]) -> Figures:
    return {f"{what}_ms_p50": figures[0], f"{what}_ms_p95": figures[1]}


SCENARIO = Scenario(
    name="latency-under-load",
    summary="small requests while a bulk transfer fills the bond, and what of their wait is whose",
    run=run,
    bounds=(Bound("added_ms_p95", at_most=100), Bound("held_bytes", at_most=FLOW_BUFFER)),
)
