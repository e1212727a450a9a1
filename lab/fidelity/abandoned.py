# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on clients of the Internet that give up, or have never been there: nothing is left of their attempts."""

import socket
import time

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from lab.daemons import Daemon
from lab.fidelity.bench import PATIENCE, Bench, equal, expect
from lab.fidelity.internet import INSIDE, Inbound, address, both, inside_listener
from lab.fidelity.matrix import row
from lab.fidelity.opening import FORGOTTEN, read_error
from lab.fidelity.wire import Syn, Wire
from lab.node import Node

AT_ONCE = 0.5  # seconds: well before any copy comes by itself
SEQ = 1000
GIVEN_UP = "given up: RST of the client"
NEVER_THERE = {4: "203.0.113.30", 6: "2001:db8:3000::30"}
UNFINISHED = 8.0 + 1.0  # seconds that a client may take to finish, and until the next look for those who did not
OTHER = 1  # a sequence number of somebody who has not seen the SYN


class Client:
    """One by hand, on the Internet's side: what it sends is put together here, what comes for it nobody takes."""

    def __init__(self, bench: Bench, sport: int) -> None:
        self._bench = bench
        self._sport = sport
        with bench.lab.server.entered():
            family = socket.AF_INET if bench.family == 4 else socket.AF_INET6
            self._socket = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        bench.undo(self._socket.close)

    def send(self, flags: str, seq: int) -> None:
        destination, port = address(self._bench)
        source = self._bench.server_address
        header = IP(src=source, dst=destination) if self._bench.family == 4 else IPv6(src=source, dst=destination)
        segment = header / TCP(sport=self._sport, dport=port, flags=flags, seq=seq)
        self._socket.sendto(bytes(segment), (destination, 0))


def firewall(bench: Bench, node: Node, rule: str) -> None:
    """The node's own, until `lift`."""
    node.run(
        ["nft", "-f", "-"], text=f"table inet row {{ chain input {{ type filter hook input priority 0; {rule}; }}; }}"
    )
    bench.undo(lambda: lift(node))


def lift(node: Node) -> None:
    node.run(["nft", "-f", "-"], text="add table inet row\ndelete table inet row\n")


def states(bench: Bench, daemon: Daemon) -> list[str]:
    return [flow["state"] for flow in bench.flows(daemon)]


def all_held(bench: Bench) -> None:
    bench.until(
        lambda: all(states(bench, daemon) == ["held"] for daemon in both(bench)),
        lambda: f"the SYN is not held on both boxes: {[states(bench, it) for it in both(bench)]}",
    )


def gone(bench: Bench, *daemons: Daemon, within: float = AT_ONCE) -> None:
    for daemon in daemons:
        bench.until(
            lambda daemon=daemon: not bench.flows(daemon),  # type: ignore[misc]
            lambda daemon=daemon: f"{daemon.name} still has {bench.flows(daemon)}",  # type: ignore[misc]
            patience=within,
        )


@row(
    "7x", "from the Internet: the client's RST for its held SYN; the router learns when the host answers", setup=Inbound
)
def client_resets(bench: Bench) -> None:
    inside, client = bench.lab.client, Client(bench, 21001)
    firewall(bench, inside, f"tcp dport {INSIDE} drop")
    with inside_listener(bench) as listener:
        client.send("S", SEQ)
        all_held(bench)
        client.send("R", SEQ + 1 + OTHER)
        time.sleep(0.1)
        equal("flows after another's RST", states(bench, bench.hag), ["held"])
        with bench.counts(bench.hag, GIVEN_UP), bench.counts(bench.cpe, GIVEN_UP):
            client.send("R", SEQ + 1)
            gone(bench, bench.hag)
            equal("flows at the router", states(bench, bench.cpe), ["held"])
            lift(inside)
            server = listener.accept()[0]  # the router's next copy of the SYN, after a second
            bench.undo(server.close)
            server.settimeout(AT_ONCE)
            equal("what the host inside reads", read_error(server), "ECONNRESET")
            gone(bench, bench.cpe)


@row("7y", "from the Internet: a SYN in the name of a host that is there and knows nothing of it", setup=Inbound)
def in_anothers_name(bench: Bench) -> None:
    with inside_listener(bench) as listener, bench.counts(bench.hag, GIVEN_UP):
        Client(bench, 21002).send("S", SEQ)
        server = listener.accept()[0]
        bench.undo(server.close)
        server.settimeout(AT_ONCE)
        equal("what the host inside reads", read_error(server), "ECONNRESET")
        gone(bench, *both(bench))


@row("7ac", "from the Internet: the router forgets a SYN that nobody answers", setup=Inbound, slow=True)
def nobody_answers(bench: Bench) -> None:
    firewall(bench, bench.lab.client, f"tcp dport {INSIDE} drop")
    client = Client(bench, 21003)
    client.send("S", SEQ)
    all_held(bench)
    client.send("R", SEQ + 1)
    gone(bench, bench.hag)
    gone(bench, bench.cpe, within=FORGOTTEN)


@row(
    "7aa", "from the Internet: a SYN in the name of nobody: the host inside is free after 9 s", setup=Inbound, slow=True
)
def in_nobodys_name(bench: Bench) -> None:
    source = NEVER_THERE[bench.family]
    bench.lab.hag.configure([f"neighbour replace {source} lladdr 02:00:00:00:00:01 dev core"])
    wire = Wire(bench, bench.lab.server, "core", bench.lab.hag)
    destination, port = address(bench)
    with inside_listener(bench) as listener:
        began = time.monotonic()
        wire.send(Syn(source, destination, port, capable=False))
        server = listener.accept()[0]
        bench.undo(server.close)
        server.settimeout(PATIENCE)
        equal("what the host inside reads", read_error(server), "ECONNRESET")
        took = time.monotonic() - began
        expect(took <= UNFINISHED + AT_ONCE, f"that takes {took:.1f} s")
        gone(bench, *both(bench))
