# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on what the boxes themselves cannot reach: their kernels' ICMP errors must find the connections they are for."""

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable

from lab.access import Kind
from lab.daemons import Daemon
from lab.fidelity.bench import Bench, Via, direct, equal, punctual
from lab.fidelity.internet import Inbound, outside_client
from lab.fidelity.matrix import row
from lab.fidelity.opening import (
    LOOKED_FOR,
    SLACK,
    UNREACHABLE,
    UNREACHABLE6,
    UNREACHED,
    refused,
    same_refusal,
)
from lab.node import Node

PREFIX = {4: 32, 6: 128}
DEAD_GATEWAY = {4: "198.51.100.20", 6: "2001:db8:2000:1::20"}  # on the WAN; nobody has it
BEHIND_IT = {4: ("203.0.113.20", "203.0.113.21"), 6: ("2001:db8:3000::200", "2001:db8:3000::201")}
FORBIDDEN = {4: "203.0.113.22", 6: "2001:db8:3000::202"}

PORT = 8080  # that the router's firewall lets in
OUTSIDE, OUTSIDE_TOO = 8091, 8092  # that are forwarded to hosts that are not there
PASSED = {4: "203.0.113.12", 6: "2001:db8:3000::12"}  # a client whose connections the gateway passes
ABSENT = {4: ("192.0.2.20", "192.0.2.21"), 6: ("2001:db8:1000:1::20", "2001:db8:1000:1::21")}  # in the LAN

FORWARDS = f"""\
table ip lab_absent {{
  chain prerouting {{
    type nat hook prerouting priority dstnat
    iifname "xdsl" tcp dport {OUTSIDE} dnat to {ABSENT[4][0]}:{PORT}
    iifname "xdsl" tcp dport {OUTSIDE_TOO} dnat to {ABSENT[4][1]}:{PORT}
  }}
}}
"""


def impatient(bench: Bench, node: Node, device: str) -> None:
    """It soon stops looking for a neighbour, and says so as often as there is occasion."""
    searching = f"ipv{bench.family}/neigh/{device}/retrans_time_ms"
    node.sysctl({searching: LOOKED_FOR // 3, "ipv4/icmp_ratelimit": 0, "ipv6/icmp/ratelimit": 0})
    bench.undo(lambda: node.sysctl({searching: 1000, "ipv4/icmp_ratelimit": 1000, "ipv6/icmp/ratelimit": 1000}))


def as_late(
    bench: Bench,
    node: Node,
    device: str,
    plain: Callable[[], tuple[str, float]],
    bonded: Callable[[], tuple[str, float]],
    *daemons: Daemon,
) -> None:
    """Both fail at one time in the same way; these daemons say why. Each looks for another neighbour of that device."""

    def attempt() -> float:
        """Seconds that it takes longer than without the pair."""
        node.run(["ip", f"-{bench.family}", "neighbour", "flush", "dev", device])  # what was found out would hold
        outcomes: list[tuple[str, float]] = []
        without = threading.Thread(target=lambda: outcomes.append(plain()))
        without.start()
        with contextlib.ExitStack() as counted:
            for daemon in daemons:
                counted.enter_context(bench.counts(daemon, UNREACHED))
            error, took = bonded()
        without.join()
        ((plain_error, plain_time),) = outcomes
        equal("the error without the pair", plain_error, "EHOSTUNREACH")
        equal("the error", error, plain_error)
        return took - plain_time

    punctual(attempt, SLACK)


@row("1h", "a neighbour of the router on the WAN is not there; a route is closed by the router", setup=direct)
def no_neighbour_of_the_router(bench: Bench) -> None:
    router, family = bench.lab.cpe, bench.family
    without, with_ = BEHIND_IT[family]
    routes = [f"{address}/{PREFIX[family]} via {DEAD_GATEWAY[family]} dev xdsl" for address in (without, with_)]
    routes.append(f"prohibit {FORBIDDEN[family]}/{PREFIX[family]}")
    router.configure(f"route add {it}" for it in routes)
    bench.undo(lambda: router.configure(f"route del {it}" for it in routes))

    same_refusal(bench, "EHOSTUNREACH" if family == 4 else "EACCES", address=FORBIDDEN[family])
    impatient(bench, router, "xdsl")  # which leaves the kernel nothing to say for a while of closed routes

    def attempt(via: Via, address: str) -> tuple[str, float]:
        return refused(bench, via, address=address)

    as_late(bench, router, "xdsl", lambda: attempt("guest", without), lambda: attempt("lan", with_), bench.cpe)


class Near(Inbound):
    """The boxes look for neighbours, on the accesses too; the router has forwards to hosts that are not there."""

    def __init__(self) -> None:
        super().__init__(accesses=Kind.DIRECT, protect=list(PASSED.values()))

    def __enter__(self) -> "Near":
        super().__enter__()
        self.lab.cpe.run(["nft", "-f", "-"], text=FORWARDS)
        self.lab.server.configure(f"address add {PASSED[family]}/{PREFIX[family]} dev core" for family in (4, 6))
        return self


def from_outside(bench: Bench, client: socket.socket, where: tuple[str, int]) -> tuple[str, float]:
    """How it fails, and after how many seconds."""
    client.setsockopt(*(UNREACHABLE6 if bench.family == 6 else UNREACHABLE))
    began = time.monotonic()
    error = client.connect_ex(where)
    return errno.errorcode.get(error, str(error)), time.monotonic() - began


def plain_client(bench: Bench) -> socket.socket:
    """One whose connections no box takes."""
    client = bench.tcp(bench.lab.server)
    client.bind((PASSED[bench.family], 0))
    return client


@row("7v", "from the Internet: the host inside is not there", setup=Near, slow=True)
def host_is_not_there(bench: Bench) -> None:
    impatient(bench, bench.lab.cpe, "lan")
    if bench.family == 4:
        router = bench.lab.cpe.address("xdsl", 4)
        without, with_ = (router, OUTSIDE), (router, OUTSIDE_TOO)
    else:
        without, with_ = ((address, PORT) for address in ABSENT[6])
    as_late(
        bench,
        bench.lab.cpe,
        "lan",
        lambda: from_outside(bench, plain_client(bench), without),
        lambda: from_outside(bench, outside_client(bench), with_),
        bench.cpe,
        bench.hag,
    )


@row("7w", "from the Internet: the router is not there", setup=Near, slow=True)
def router_is_not_there(bench: Bench) -> None:
    gateway, family = bench.lab.hag, bench.family
    impatient(bench, gateway, "xdsl")
    if family == 4:
        without, with_ = ("198.51.100.21", "198.51.100.22")
    else:
        without, with_ = ABSENT[6]
        routes = [f"{address}/128 via {DEAD_GATEWAY[6]} dev xdsl" for address in (without, with_)]
        gateway.configure(f"route add {it}" for it in routes)
        bench.undo(lambda: gateway.configure(f"route del {it}" for it in routes))
    as_late(
        bench,
        gateway,
        "xdsl",
        lambda: from_outside(bench, plain_client(bench), (without, PORT)),
        lambda: from_outside(bench, outside_client(bench), (with_, PORT)),
        bench.hag,
    )
