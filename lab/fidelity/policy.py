# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on what is not bonded by rule, and on what nobody gets out of the gateway."""

import contextlib
import json
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Final

from common import marks, packet, transparent
from lab.capture import Capture
from lab.daemons import Daemon
from lab.fidelity.bench import Bench, Ends, equal, exchange, expect
from lab.fidelity.matrix import row
from lab.fidelity.policed import (
    EF,
    ELSEWHERE,
    LOOPBACK,
    MANAGEMENT,
    NEIGHBOUR,
    OTHER_SUBSCRIBER,
    PORTS,
    PRIVATE,
    SECOND_CLIENT,
    SECOND_SERVER,
    STRANGER,
    Credulous,
    Policed,
)
from lab.fidelity.wire import CANARY, Syn, Wire
from lab.node import Node, connect
from lab.topology import route_client


@contextlib.contextmanager
def bonds(bench: Bench, connections: int) -> Iterator[None]:
    """Expects that both boxes bond exactly so many of the connections inside."""
    with (
        bench.counts(bench.cpe, "opened: bonded", connections),
        bench.counts(bench.hag, "opened: bonded", connections),
    ):
        yield


@contextlib.contextmanager
def passes(bench: Bench, reason: str, connections: int = 1) -> Iterator[None]:
    """Expects that hybrid-cpe passes exactly so many, for that reason, and that nobody bonds any."""
    with bonds(bench, 0), bench.counts(bench.cpe, f"passed: {reason}", connections):
        yield


def dial(bench: Bench, source: str, server: str = "", port: int = 0, tos: int = 0) -> Ends:
    """A connection from one address to one, over which something is carried both ways, and its end."""
    ends = connected(bench, source, server, port, tos)
    ends.client.close()
    return ends


def connected(bench: Bench, source: str, server: str = "", port: int = 0, tos: int = 0) -> Ends:
    """The same without the end."""
    server = server or bench.server_address
    listener = bench.tcp(bench.lab.server, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    listener.bind((server, port))
    listener.listen()
    client = bench.tcp(bench.lab.client)
    if tos:
        level, option = (socket.IPPROTO_IP, socket.IP_TOS) if bench.family == 4 else (socket.IPPROTO_IPV6, 67)
        client.setsockopt(level, option, tos)  # 67: IPV6_TCLASS
    client.bind((source, 0))
    client.connect(listener.getsockname()[:2])
    accepted = listener.accept()[0]
    bench.undo(accepted.close)
    ends = Ends(client, accepted)
    exchange(ends)
    listener.close()
    return ends


@row("6a", "not bonded by rule: port, server, client, DSCP", setup=Policed)
def by_rule(bench: Bench) -> None:
    client = bench.lab.client.address("lan", bench.family)
    for port in PORTS:
        with passes(bench, "bypass 'ports'"):
            dial(bench, client, port=port)
    with passes(bench, "bypass 'servers'"):
        dial(bench, client, SECOND_SERVER[bench.family])
    with passes(bench, "bypass 'hosts'"):
        dial(bench, SECOND_CLIENT[bench.family])
    with passes(bench, "bypass 'calls'"):
        dial(bench, client, tos=EF << 2)
    with bonds(bench, 3):
        dial(bench, client)
        dial(bench, client, port=PORTS[-1] + 1)
        dial(bench, client, tos=EF - 1 << 2)


@row("6b", "not bonded by rule: a LAN, and the same LAN made anew", setup=Policed)
def by_device(bench: Bench) -> None:
    lab = bench.lab
    guest = lab.client.address("guest", bench.family)
    with passes(bench, "bypass 'guests'"):
        dial(bench, guest)
    before = index(lab.cpe, "guest")
    lab.cpe.configure(["link delete guest"])
    connect(lab.client, lab.cpe, "guest")
    lab.client.run(["sh", "-c", "for f in 4 6; do ip -$f rule del lookup 100; done"])
    route_client(lab.client, lab.cpe)
    expect(index(lab.cpe, "guest") != before, "the device has the index of the former one")
    with passes(bench, "bypass 'guests'"):
        dial(bench, guest)
    with bonds(bench, 1):
        dial(bench, lab.client.address("lan", bench.family))


def index(node: Node, device: str) -> int:
    (link,) = json.loads(node.run(["ip", "-json", "link", "show", device]).stdout)
    return int(link["ifindex"])


@row("6c", "the router's own addresses, on each device")
def own_addresses(bench: Bench) -> None:
    before = fates(bench.cpe)
    for device in ("lan", "guest", "xdsl", "lte"):
        address = bench.lab.cpe.address(device, bench.family)
        listener = bench.tcp(bench.lab.cpe)
        listener.bind((address, 0))
        listener.listen()
        client = bench.client()
        client.connect(listener.getsockname()[:2])
        server = listener.accept()[0]
        bench.undo(server.close)
        exchange(Ends(client, server))
        client.close()
    equal("what hybrid-cpe has counted", fates(bench.cpe) - before, Counter())


NOWHERE = {
    4: ["10.1.2.3", "100.64.0.1", "169.254.1.1", "172.16.0.1", "192.168.77.1", "240.0.0.1"],
    6: ["fd00::1", "fec0::1", "64:ff9b::10.0.0.1"],
}
GROUPS = {
    4: ["192.0.2.63", "224.0.0.1", "255.255.255.255", "0.0.0.0", "127.0.0.1"],
    6: ["ff02::1", "ff05::2", "ff0e::1", "::1", "fe80::1"],
}


@row("6d", "private, link-local, multicast and broadcast destinations")
def special_destinations(bench: Bench) -> None:
    lab, family = bench.lab, bench.family
    wire = Wire(bench, lab.client, "lan", lab.cpe)
    source = lab.client.address("lan", family)
    with passes(bench, "private or special destination", len(NOWHERE[family])):
        for number, destination in enumerate(NOWHERE[family]):
            wire.send(Syn(source, destination, sport=30000 + number))
    before = fates(bench.cpe)
    for number, destination in enumerate(GROUPS[family]):
        wire.send(Syn(source, destination, sport=31000 + number))
    with bonds(bench, 1):
        dial(bench, source)
    seen = fates(bench.cpe) - before - Counter({"opened: bonded": 1, "reset: a leg failed": 1})
    expect(seen.keys() <= {"passed: private or special destination"}, f"hybrid-cpe makes of them {seen}")


def fates(daemon: Daemon) -> Counter[str]:
    return Counter(daemon.status()["counters"])


# The gateway

SPECIAL_AT_LEAST: Final = 6  # of the spellings, in each family: more come to the daemon, or to the kernel's last word


CLOSED: Final = 9  # where nobody does


# Besides what the gateway has itself. Each means the neighbour, the gateway or those around it in other words.
SPELLINGS = {
    4: [
        "0.0.0.0",
        "0.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.0.0.53",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "198.51.100.63",
        "203.0.113.63",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
    ],
    6: [
        "::",
        "::1",
        "::127.0.0.1",
        "::203.0.113.40",
        "::ffff:127.0.0.1",
        "::ffff:203.0.113.40",
        "::ffff:0:203.0.113.40",
        "64:ff9b::127.0.0.1",
        "64:ff9b::203.0.113.40",
        "64:ff9b:1::203.0.113.40",
        "2001:0:cb00:7128::",
        "2002:7f00:1::1",
        "2002:cb00:7128::1",
        "2001:db8:3000::5efe:203.0.113.40",
        "2001:db8:3000::200:5efe:127.0.0.1",
        "2001:db8:3000::",
        "fd00::1",
        "fe80::1",
        "fe80::5efe:203.0.113.40",
        "fec0::1",
        "ff02::1",
        "ff05::2",
        "ff0e::1",
    ],
}


def counted(node: Node, counter: str) -> int:
    found = json.loads(node.run(["nft", "-j", "list", "counter", "inet", "lab_canary", counter]).stdout)
    return sum(each["counter"]["packets"] for each in found["nftables"] if "counter" in each)


@contextlib.contextmanager
def no_canary_stirs(bench: Bench, legs: int = 0) -> Iterator[None]:
    """Expects that nothing inside reaches a canary, and that the gateway itself sends exactly so many SYNs anywhere."""
    nodes = (bench.lab.hag, bench.lab.server, bench.lab.cpe)
    before = [counted(node, "reached") for node in nodes]
    sent = counted(bench.lab.hag, "legs")
    yield
    equal("SYNs that server legs of the gateway have sent", counted(bench.lab.hag, "legs") - sent, legs)
    reached = [counted(node, "reached") - was for node, was in zip(nodes, before, strict=True)]
    equal("SYNs that have reached gateway, server and router", reached, [0, 0, 0])


def gateway_addresses(bench: Bench) -> list[str]:
    family = bench.family
    return [*(bench.lab.hag.address(d, family) for d in ("xdsl", "lte", "core")), MANAGEMENT[family], LOOPBACK[family]]


def subscriber(bench: Bench) -> str:
    """An address that the gateway takes for one."""
    return bench.lab.client.address("lan", 6) if bench.family == 6 else bench.lab.cpe.address("xdsl", 4)


@row("6e", "no spelling gets through the gateway into it, its management or a subscriber", setup=Policed)
def nothing_through(bench: Bench) -> None:
    family = bench.family
    wire = Wire(bench, bench.lab.cpe, "xdsl", bench.lab.hag)
    own = gateway_addresses(bench)
    before = fates(bench.hag)
    with no_canary_stirs(bench):
        destinations = [*own, OTHER_SUBSCRIBER[family], *SPELLINGS[family], NEIGHBOUR[family]]
        for number, destination in enumerate(destinations):
            wire.send(Syn(subscriber(bench), destination, sport=30000 + number))
        protected = "passed: protected destination"  # the last one; they are decided on in order
        bench.until(lambda: (fates(bench.hag) - before)[protected], lambda: f"hybrid-hag counts {fates(bench.hag)}")
    seen = fates(bench.hag) - before
    equal("SYNs for its neighbour", seen.pop("passed: protected destination"), 1)
    equal("SYNs for a subscriber", seen.pop("passed: destination is a subscriber"), 1)
    expect(seen.pop("passed: the gateway's own address") >= len(own), "not all for itself are counted")
    # Those that the kernel throws away by itself, or that are for many at once, do not come to the daemon.
    expect(seen.pop("passed: private or special destination") >= SPECIAL_AT_LEAST, f"only these come: {seen}")
    equal("others", seen, Counter())
    with no_canary_stirs(bench, legs=1), bench.counts(bench.hag, "refused: reset"):
        wire.send(Syn(subscriber(bench), bench.server_address, CLOSED))


@row("6f", "what the gateway does not open it passes on, less the option", setup=Policed)
def passed_on(bench: Bench) -> None:
    wire = Wire(bench, bench.lab.cpe, "xdsl", bench.lab.hag)
    private = Syn(subscriber(bench), PRIVATE[bench.family], CLOSED, seq=0xAABBCCDD)
    stranger = Syn(STRANGER[bench.family], bench.server_address, CLOSED, seq=0xAABBCCDE)
    forged = Syn(ELSEWHERE[bench.family], bench.server_address, CLOSED, seq=0xAABBCCDF)
    capture = Capture(bench.lab.server, "core")
    for syn, reason in (
        (private, "passed: private or special destination"),
        (stranger, "passed: not a subscriber"),
        (forged, "passed: no route back to the source there"),
    ):
        with no_canary_stirs(bench), bench.counts(bench.hag, reason):
            wire.send(syn)
    seen = [it.segment for it in capture.stop() if it.segment.is_syn]
    wanted = [(it.source, it.destination, it.seq) for it in (private, stranger, forged)]
    equal("SYNs at the server", [(it.source, it.destination, it.seq) for it in seen], wanted)
    # The last one nobody has looked at; as it comes in another's name, its sender cannot even hear the answer.
    equal("which of them have MP_CAPABLE", [it.mp_capable is not None for it in seen], [False, False, True])


@row("6g", "the gateway from the Internet: no port is open but that for subflows, nothing is relayed", setup=Policed)
def scan(bench: Bench) -> None:
    lab, family = bench.lab, bench.family
    wire = Wire(bench, lab.server, "core", lab.hag)
    source = bench.server_address
    # Without the operator's firewall, or it would be that which is tested.
    lab.hag.run(["nft", "add chain inet lab_firewall input { policy accept; }"])
    bench.undo(lambda: lab.hag.run(["nft", "add chain inet lab_firewall input { policy drop; }"]))
    before = fates(bench.hag)
    capture = Capture(lab.server, "core")
    ports = [*range(1, 1024), *range(4800, 4830), *range(4900, 4930), *range(9000, 9010), CANARY]
    for destination in (lab.hag.address("core", family), lab.hag.address("lte", family)):
        for port in ports:
            wire.send(Syn(source, destination, port, sport=20000, capable=bool(port % 2)))
            wire.send(Syn(source, destination, port, sport=20001, capable=not port % 2))
    for at in (subscriber(bench), STRANGER[family]):  # as from inside, to servers and into the LAN
        for destination in (SECOND_SERVER[family], OTHER_SUBSCRIBER[family], NEIGHBOUR[family]):
            wire.send(Syn(at, destination, CLOSED, sport=20002))
    last = Syn(source, lab.hag.address("core", family), CLOSED, sport=20003)
    wire.send(last)
    seen = [it.segment for it in capture.stop()]
    answered = {(it.source, it.sport) for it in seen if it.flags & packet.RST and it.destination == source}
    expect(len(answered) >= len(ports), f"only {len(answered)} ports have said no")
    # The port for subflows is what it says, though kernels that know how refuse there what is none.
    opened = {(it.source, it.sport) for it in seen if it.is_syn_ack} - {(lab.hag.address("lte", family), 9001)}
    equal("open ports", opened, set())
    outside = {at for at in listeners(lab.hag) if not at.startswith(("127.0.0.1:", "[::1]:"))}
    joins = {f"{lab.hag.address('lte', 4)}:9001", f"[{lab.hag.address('lte', 6)}]:9001"}
    equal("listeners that are not for this host alone", outside, joins)
    equal("what hybrid-hag has counted", fates(bench.hag) - before, Counter())


def listeners(node: Node) -> list[str]:
    """Where sockets listen, as ADDRESS:PORT."""
    return [line.split()[3] for line in node.run(["ss", "-Hltn"]).stdout.splitlines()]


@row("6h", "the gateway's kernel lets no server leg into it, its management or anything special", setup=Policed)
def kernel_refuses_legs(bench: Bench) -> None:
    family = bench.family
    before = fates(bench.hag)
    own = gateway_addresses(bench)
    with no_canary_stirs(bench):
        for destination in [*own, NEIGHBOUR[family], *SPELLINGS[family]]:
            if destination != "0.0.0.0":  # whoever connects there comes to himself: here, to the subscriber
                open_leg(bench, destination)
    stopped = (fates(bench.hag) - before)["refused: closed destination"]
    expect(stopped > len(own) + SPECIAL_AT_LEAST, f"the kernel counts {stopped}")
    with no_canary_stirs(bench, legs=1):
        open_leg(bench, bench.server_address)


def open_leg(bench: Bench, destination: str) -> None:
    """Does on the gateway what the daemon would do to open a connection, and leaves it at once."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    source = subscriber(bench), 28000
    with bench.lab.hag.entered(), contextlib.suppress(OSError):  # some the kernel does not even try
        transparent.server_leg(family, transparent.TCP, source, (destination, CLOSED), marks.server_leg()).close()


@row("6i", "what the gateway's daemon would open, its kernel does not", setup=Credulous, slow=True)
def kernel_refuses(bench: Bench) -> None:
    before = bench.counter(bench.hag, "refused: closed destination")
    with no_canary_stirs(bench):
        client = bench.client()
        client.settimeout(1.2)
        with contextlib.suppress(TimeoutError):
            client.connect((NEIGHBOUR[bench.family], CANARY))
            expect(False, "the management network answers")
        expect(bench.counter(bench.hag, "refused: closed destination") > before, "the kernel counts none")
        equal("flows that the daemon tries", [it["state"] for it in bench.flows(bench.hag)], ["held"])
    bench.hag.restart()  # or it would try for 40 s more


@row("6j", "a service of the gateway itself, for whoever its firewall lets in")
def gateway_service(bench: Bench) -> None:
    lab = bench.lab
    listener = bench.tcp(lab.hag)
    listener.bind((lab.hag.address("core", bench.family), 0))
    listener.listen()
    port = listener.getsockname()[1]
    lab.hag.run(["nft", f"insert rule inet lab_firewall input tcp dport {port} accept"])
    with bench.counts(bench.cpe, "opened: plain TCP"), bench.counts(bench.hag, "passed: the gateway's own address"):
        client = bench.client()
        client.connect(listener.getsockname()[:2])
        server = listener.accept()[0]
        bench.undo(server.close)
        exchange(Ends(client, server))
    equal("flows of hybrid-hag", bench.flows(bench.hag), [])
