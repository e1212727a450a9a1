# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on how connections begin, or do not."""

import errno
import os
import socket
import threading
import time

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from lab.capture import Capture
from lab.daemons import Daemon
from lab.fidelity.bench import Bench, Via, equal, expect, punctual
from lab.fidelity.matrix import row

CLOSED = 9  # a port where nobody listens
NOWHERE = {4: "203.0.113.128/26", 6: "2001:db8:4000::/64"}  # behind the gateway, if it let anybody go there
SOMEWHERE = {4: "203.0.113.129", 6: "2001:db8:4000::1"}  # in there
NOBODY = {4: ("203.0.113.20", "203.0.113.21"), 6: ("2001:db8:3000::200", "2001:db8:3000::201")}  # has these
LOOKED_FOR = 300  # milliseconds until the gateway stops looking for a neighbour, in three tries
SILENT = 7  # ports of a server that drops what comes for them
SILENT_TOO = 8
FORGOTTEN = (
    5.5  # seconds after the last copy of a SYN: the longest that a box holds it if it was sent once or each second
)
PROMPT = 0.5  # seconds, at most, for a refusal without the pair
SLACK = 0.050  # seconds that a refusal may come later than without the pair

UNREACHED = "refused: host-unreachable"

UNREACHABLE = (socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: the client hears of ICMP errors at once
UNREACHABLE6 = (socket.IPPROTO_IPV6, 25, 1)


def refused(bench: Bench, via: Via, port: int = CLOSED, address: str = "") -> tuple[str, float]:
    """How a connect() fails, and after how many seconds."""
    client = bench.client(via, UNREACHABLE6 if bench.family == 6 else UNREACHABLE)
    began = time.monotonic()
    error = client.connect_ex((address or bench.server_address, port))
    return errno.errorcode.get(error, os.strerror(error)), time.monotonic() - began


def later(bench: Bench, wanted: str, port: int = CLOSED, address: str = "") -> float:
    """The client sees the same error by way of the pair as without it; so many seconds later."""
    plain, plain_time = refused(bench, "guest", port, address)
    bonded, bonded_time = refused(bench, "lan", port, address)
    equal("the error without the pair", plain, wanted)
    equal("the error", bonded, wanted)
    expect(plain_time < PROMPT, f"without the pair it takes {plain_time:.1f} s: that would excuse any delay of ours")
    return bonded_time - plain_time


def same_refusal(bench: Bench, wanted: str, port: int = CLOSED, address: str = "") -> None:
    """The client sees the same error by way of the pair as without it, as quickly."""
    punctual(lambda: later(bench, wanted, port, address), SLACK)


@row("1a", "the server refuses with RST")
def server_refuses(bench: Bench) -> None:
    def attempt() -> float:
        with bench.counts(bench.cpe, "refused: reset"), bench.counts(bench.hag, "refused: reset"):
            return later(bench, "ECONNREFUSED")

    punctual(attempt, SLACK)


def firewall(bench: Bench, rule: str) -> None:
    """The server's, until the end of the row."""
    text = f"table inet row {{ chain input {{ type filter hook input priority 0; {rule}; }}; }}"
    bench.lab.server.run(["nft", "-f", "-"], text=text)
    bench.undo(lambda: lift(bench))


def lift(bench: Bench) -> None:
    bench.lab.server.run(["nft", "-f", "-"], text="add table inet row\ndelete table inet row\n")


def rejected(bench: Bench, kind: str, wanted: str) -> None:
    """The server's network answers with that ICMP error."""
    firewall(bench, f"tcp dport {SILENT} reject with icmpx type {kind}")
    same_refusal(bench, wanted, SILENT)


@row("1b", "no route to the server")
def no_route(bench: Bench) -> None:
    rejected(bench, "no-route", "ENETUNREACH")


@row("1c", "the server's host cannot be reached")
def host_unreachable(bench: Bench) -> None:
    rejected(bench, "host-unreachable", "EHOSTUNREACH")


@row("1d", "prohibited by an administrator")
def prohibited(bench: Bench) -> None:
    rejected(bench, "admin-prohibited", "EHOSTUNREACH" if bench.family == 4 else "EACCES")


def unlimited(bench: Bench) -> None:
    """The gateway's ICMP errors of the rows before do not count: the router, as one host, gets six at a time."""
    bench.lab.hag.sysctl({"ipv4/icmp_ratelimit": 0})
    bench.undo(lambda: bench.lab.hag.sysctl({"ipv4/icmp_ratelimit": 1000}))


@row("1e", "prohibited by the gateway itself")
def prohibited_by_the_gateway(bench: Bench) -> None:
    route = f"prohibit {NOWHERE[bench.family]}"
    bench.lab.hag.configure([f"route add {route}"])
    bench.undo(lambda: bench.lab.hag.configure([f"route del {route}"]))
    unlimited(bench)
    same_refusal(bench, "EHOSTUNREACH" if bench.family == 4 else "EACCES", address=SOMEWHERE[bench.family])


@row("1g", "no neighbour of the gateway has the server's address")
def no_neighbour(bench: Bench) -> None:
    unlimited(bench)
    node = bench.lab.hag
    name = f"ipv{bench.family}/neigh/core/retrans_time_ms"
    node.sysctl({name: LOOKED_FOR // 3})
    bench.undo(lambda: node.sysctl({name: 1000}))
    # An address each, since what the gateway has found out for one holds for the next.
    outcomes: dict[Via, tuple[str, float]] = {}

    def attempt(via: Via, address: str) -> None:
        outcomes[via] = refused(bench, via, address=address)

    without, with_ = NOBODY[bench.family]
    plain = threading.Thread(target=attempt, args=("guest", without))
    plain.start()
    with bench.counts(bench.cpe, UNREACHED), bench.counts(bench.hag, UNREACHED):
        attempt("lan", with_)
    plain.join()
    (plain_error, plain_time), (error, took) = outcomes["guest"], outcomes["lan"]
    equal("the error without the pair", plain_error, "EHOSTUNREACH")
    equal("the error", error, plain_error)
    expect(took - plain_time <= SLACK, f"{took * 1000:.0f} ms instead of {plain_time * 1000:.0f}")


@row("1f", "the server's silence: the same SYNs, the same end, and nothing is left of it", slow=True)
def silence(bench: Bench) -> None:
    firewall(bench, f"tcp dport {{ {SILENT}, {SILENT_TOO} }} drop")
    capture = Capture(bench.lab.server, "core")
    outcomes: dict[Via, tuple[str, float]] = {}

    def attempt(via: Via, port: int) -> None:
        client = bench.client(via, (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3500))
        client.settimeout(None)
        began = time.monotonic()
        outcomes[via] = (
            errno.errorcode.get(client.connect_ex((bench.server_address, port)), ""),
            time.monotonic() - began,
        )

    plain = threading.Thread(target=attempt, args=("guest", SILENT))
    plain.start()
    attempt("lan", SILENT_TOO)
    plain.join()
    for daemon in (bench.cpe, bench.hag):  # the gateway follows when the router's copies have ceased
        bench.until(lambda daemon=daemon: not bench.flows(daemon), lambda: "a flow is left", FORGOTTEN)  # type: ignore[misc]
    equal("the error without the pair", outcomes["guest"][0], "ETIMEDOUT")
    equal("the error", outcomes["lan"][0], "ETIMEDOUT")
    expect(abs(outcomes["lan"][1] - outcomes["guest"][1]) <= SLACK, f"it takes {outcomes}")
    seen = capture.stop()
    times = {
        port: [one.time / 1e9 for one in seen if one.segment.is_syn and one.segment.dport == port]
        for port in (SILENT, SILENT_TOO)
    }
    schedules = {port: [at - all_[0] for at in all_] for port, all_ in times.items()}
    expect(len(schedules[SILENT]) == 4 <= len(schedules[SILENT_TOO]), f"SYNs come at {schedules}")
    late = [abs(one - other) for one, other in zip(schedules[SILENT], schedules[SILENT_TOO], strict=False)]
    expect(max(late) <= SLACK, f"SYNs come at {schedules}")


def states(bench: Bench, daemon: Daemon) -> list[str]:
    return [flow["state"] for flow in bench.flows(daemon)]


def all_held(bench: Bench) -> None:
    bench.until(
        lambda: all(states(bench, daemon) == ["held"] for daemon in (bench.cpe, bench.hag)),
        lambda: "the SYN is not held on both boxes",
    )


@row("2a", "the client closes while its SYN is held: when the server answers, it learns so")
def client_closes(bench: Bench) -> None:
    firewall(bench, f"tcp dport {SILENT} drop")
    listener = bench.listen(SILENT)
    client = bench.client()
    client.setblocking(False)
    client.connect_ex((bench.server_address, SILENT))
    all_held(bench)
    client.close()
    lift(bench)
    with bench.counts(bench.cpe, "given up: RST of the client"):
        server = listener.accept()[0]  # the gateway's next copy of the SYN, after a second
        bench.undo(server.close)
        server.settimeout(0.5)
        equal("what the server reads", read_error(server), "ECONNRESET")
        bench.until(
            lambda: not bench.flows(bench.cpe) and not bench.flows(bench.hag), lambda: "a flow is left", patience=0.5
        )


def read_error(sock: socket.socket) -> str:
    try:
        return repr(sock.recv(1))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


@row("2b", "the client's RST while its SYN is held: the router forgets it at once, the gateway when no copy comes")
def client_resets(bench: Bench) -> None:
    firewall(bench, f"tcp dport {SILENT} drop")
    client, server = bench.lab.client.address("lan", bench.family), bench.server_address
    header = IP(src=client, dst=server) if bench.family == 4 else IPv6(src=client, dst=server)
    with bench.lab.client.entered():
        raw = socket.socket(socket.AF_INET if bench.family == 4 else socket.AF_INET6, socket.SOCK_RAW, 255)
    bench.undo(raw.close)

    def send(flags: str, seq: int) -> None:
        raw.sendto(bytes(header / TCP(sport=20001, dport=SILENT, flags=flags, seq=seq)), (server, 0))

    send("S", 1000)
    all_held(bench)
    send("R", 5000)  # of somebody who does not know the SYN
    with bench.counts(bench.cpe, "given up: RST of the client"):
        time.sleep(0.1)
        equal("flows after another's RST", states(bench, bench.cpe), ["held"])
        send("R", 1001)
        bench.until(lambda: not bench.flows(bench.cpe), lambda: "a flow is left on the router", patience=0.5)
    bench.until(lambda: not bench.flows(bench.hag), lambda: "a flow is left on the gateway", FORGOTTEN)


@row("2c", "the router has given up when the server answers: the gateway learns so")
def router_gives_up(bench: Bench) -> None:
    firewall(bench, f"tcp dport {SILENT} drop")
    listener = bench.listen(SILENT)
    client, server = bench.lab.client.address("lan", bench.family), bench.server_address
    header = IP(src=client, dst=server) if bench.family == 4 else IPv6(src=client, dst=server)
    with bench.lab.client.entered():
        raw = socket.socket(socket.AF_INET if bench.family == 4 else socket.AF_INET6, socket.SOCK_RAW, 255)
    bench.undo(raw.close)
    raw.sendto(bytes(header / TCP(sport=20002, dport=SILENT, flags="S", seq=1000)), (server, 0))
    all_held(bench)
    with bench.counts(bench.hag, "given up: RST of the client"):
        raw.sendto(bytes(header / TCP(sport=20002, dport=SILENT, flags="R", seq=1001)), (server, 0))
        bench.until(lambda: not bench.flows(bench.cpe), lambda: "a flow is left on the router", patience=0.5)
        lift(bench)
        accepted = listener.accept()[0]
        bench.undo(accepted.close)
        accepted.settimeout(0.5)
        equal("what the server reads", read_error(accepted), "ECONNRESET")
        bench.until(lambda: not bench.flows(bench.hag), lambda: "a flow is left on the gateway", patience=0.5)
