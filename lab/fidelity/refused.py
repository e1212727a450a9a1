# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on connections from the Internet that are refused, or that no box may open."""

import contextlib
import errno
import sys
import time

from lab.bonded import Pair
from lab.fidelity.bench import Bench, Mismatch, equal, exchange, expect, punctual
from lab.fidelity.internet import (
    CLOSED_INSIDE,
    CLOSED_OUTSIDE,
    FIREWALLED,
    INSIDE,
    OUTSIDE,
    Inbound,
    address,
    both,
    connect,
    inside_listener,
    outside_client,
    plainly,
)
from lab.fidelity.matrix import row
from lab.fidelity.opening import SLACK, UNREACHABLE, UNREACHABLE6
from lab.fidelity.wire import Syn, Wire

UNALLOCATED = {4: "198.51.100.30", 6: "2001:db8:1000:1::dead"}
PROTECTED = ("198.51.100.2/32", "2001:db8:1000:1::/64")  # where the Internet's clients connect to
BEHIND_THE_ACCESS = {4: "198.51.100.20", 6: "2001:db8:2000:1::20"}  # nobody's; no route to it leads to the Internet
SCAN = 3000  # more than one subscriber may have: a quarter of the quarter that is for connections from the Internet


def protecting() -> Pair:
    return Inbound(protect=PROTECTED)


def credulous() -> Pair:
    return Inbound(protect=PROTECTED, starter=[sys.executable, "-m", "lab.credulous"])


@row("7b", "from the Internet: the host inside refuses with RST", setup=Inbound)
def host_refuses(bench: Bench) -> None:
    def attempt() -> float:
        """Seconds that it takes more than the round trip."""
        client = outside_client(bench)
        with bench.counts(bench.cpe, "refused: reset"), bench.counts(bench.hag, "refused: reset"):
            began = time.monotonic()
            error = client.connect_ex(address(bench, CLOSED_OUTSIDE, CLOSED_INSIDE))
            took = time.monotonic() - began
        equal("the error", errno.errorcode.get(error), "ECONNREFUSED")
        return took - 2 * bench.lab.xdsl.profile.delay

    punctual(attempt, SLACK)


def taken(bench: Bench) -> dict[str, int]:
    """What the CPE counts of connections that it has tried to open; not how earlier ones end."""
    counters: dict[str, int] = bench.cpe.status()["counters"]
    return {name: count for name, count in counters.items() if name.startswith(("opened: ", "refused: "))}


@row("7c", "from the Internet: what the router's firewall refuses is not opened", setup=Inbound)
def firewall_refuses(bench: Bench) -> None:
    client = outside_client(bench)
    client.setsockopt(*(UNREACHABLE6 if bench.family == 6 else UNREACHABLE))
    before = taken(bench)
    with inside_listener(bench, FIREWALLED) as listener:
        error = client.connect_ex(address(bench, FIREWALLED, FIREWALLED))
        equal("the error", errno.errorcode.get(error), "EACCES" if bench.family == 6 else "EHOSTUNREACH")
        listener.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            raise Mismatch(f"the host inside has a connection from {listener.accept()[1]}")
    equal("what the router's daemon opens and refuses", taken(bench), before)


@row("7t", "from the Internet: in a name that it cannot be from nothing is opened", setup=Inbound)
def forged(bench: Bench) -> None:
    wire = Wire(bench, bench.lab.server, "core", bench.lab.hag)
    destination = bench.lab.client.address("lan", 6) if bench.family == 6 else bench.lab.cpe.address("xdsl", 4)
    port = INSIDE if bench.family == 6 else OUTSIDE
    with inside_listener(bench) as listener:
        names = [(BEHIND_THE_ACCESS[bench.family], "passed: from the Internet, no route back to the source there")]
        if bench.family == 6:  # over IPv4 the kernel drops it by itself, as a martian
            names.append((bench.lab.hag.address("core", 6), "passed: from the Internet in the gateway's own name"))
        for source, reason in names:
            with bench.counts(bench.hag, reason):
                wire.send(Syn(source, destination, port, capable=False))
        for daemon in both(bench):
            equal(f"flows at {daemon.name}", bench.flows(daemon), [])
        listener.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            raise Mismatch(f"the host inside has a connection from {listener.accept()[1]}")


@row("7o", "from the Internet: to what is protected nothing is opened", setup=protecting)
def protected(bench: Bench) -> None:
    with bench.counts(bench.hag, "passed: protected destination"):
        plainly(bench)


@row(
    "7p",
    "from the Internet: what is protected, the kernel keeps from a gateway that opens all",
    setup=credulous,
    slow=True,
)
def protected_by_the_kernel(bench: Bench) -> None:
    stopped = bench.counter(bench.hag, "refused: closed destination")
    with inside_listener(bench) as listener:
        client = outside_client(bench)
        client.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            client.connect(address(bench))
            raise Mismatch("there is a connection")
        client.close()
        listener.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            raise Mismatch(f"the host inside has a connection from {listener.accept()[1]}")
    equal("SYNs stopped", bench.counter(bench.hag, "refused: closed destination") - stopped, 1)


@row("7l", "from the Internet: a scan of addresses that nobody has", setup=Inbound, slow=True)
def scanned(bench: Bench) -> None:
    """One subscriber's share is all that it takes up, and his other connections work meanwhile."""
    scan = []
    for number in range(SCAN):
        probe = outside_client(bench)
        probe.setblocking(False)
        probe.connect_ex((UNALLOCATED[bench.family], 1 + number))
        scan.append(probe)

    def passed() -> int:
        counters: dict[str, int] = bench.hag.status()["counters"]
        return sum(count for reason, count in counters.items() if reason.startswith("passed: too many"))

    bench.until(passed, lambda: f"none passed: {bench.hag.status()}")
    status = bench.hag.status()
    expect(status["flows"] <= status["max_flows"] // 16 + 2, f"{status['flows']} of {status['max_flows']} are held")
    exchange(connect(bench))
    for probe in scan:
        probe.close()
    bench.until(lambda: len(bench.flows(bench.hag)) <= 1, lambda: "the scan is still held", 60.0)
