# SPDX-License-Identifier: GPL-2.0-or-later
"""HAProxy as a transparent proxy on both boxes, under mptcpize, which makes all its sockets Multipath TCP ones.

It has all that makes the pair bond and what makes HAProxy fast: TPROXY by rules of the same kind, the same route and
kernel settings, an address with a port announced by the gateway; splice, large pipes. The kernel's path manager joins
at once.
"""

from bench.peer import MPTCPIZE, Peer
from lab.node import Node
from lab.servers import listens
from lab.topology import Lab

PORT = 5000
JOIN_PORT = 9001
MARK = "0x49000000"  # what the lab's firewall knows as a proxy's packets
TABLE = 4900

# `source` takes one family. 1 MiB is the largest pipe that the kernel gives by default, and the fastest here.
CONFIGURATION = """\
global
  maxconn 4000
  maxpipes 2000
  tune.pipesize 1048576
  nbthread {threads}
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen transparent
  bind 127.0.0.1:{port} transparent
  bind ::1:{port} transparent
  option transparent
  source {any} usesrc clientip
"""

# SYNs first: the second rule would take one on a tuple in TIME_WAIT for the old connection's.
RULES = """\
table inet bench {{
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto != tcp accept
    tcp flags & (fin | syn | rst | ack) == syn iifname {device} fib daddr type unicast goto new
    socket transparent 1 meta mark set {mark} accept
  }}
  chain new {{
    meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:{port} meta mark set {mark} accept
    meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:{port} meta mark set {mark} accept
  }}
}}
"""

SETTINGS = {
    "mptcp/blackhole_timeout": 0,
    "mptcp/allow_join_initial_addr_port": 0,
    "ipv4/tcp_tw_reuse": 1,
}


class Haproxy(Peer):
    name = "HAProxy"
    programs = ("mptcpize", "haproxy")
    joins = True
    threads = 1  # two are no faster on two cores that boxes, client and server share

    def __init__(self, lab: Lab, family: int) -> None:
        super().__init__(lab, family)
        self.boxes = ((lab.cpe, "lan"), (lab.hag, "xdsl"))

    def start(self) -> None:
        if self.joins:
            self._bond()
        for node, device in self.boxes:
            self._proxy(node, device)

    @property
    def joining(self) -> Node | None:
        return self.lab.cpe if self.joins else None

    def _bond(self) -> None:
        """The gateway announces its addresses on LTE, the router joins at one from its own.

        Over IPv6 too at the IPv4 one: IPv6 and a port do not fit beside TCP's timestamps, so the kernel drops that.
        """
        for node, what in ((self.lab.hag, ["port", str(JOIN_PORT), "signal"]), (self.lab.cpe, ["subflow", "fullmesh"])):
            node.run(["ip", "mptcp", "limits", "set", "subflows", "1", "add_addr_accepted", "1"])
            for family in (4, 6):
                node.run(["ip", "mptcp", "endpoint", "add", node.address("lte", family), "dev", "lte", *what])

    def _proxy(self, node: Node, device: str) -> None:
        node.sysctl(SETTINGS)
        for family in (4, 6):
            node.run(["ip", f"-{family}", "rule", "add", "fwmark", f"{MARK}/0xff000000", "lookup", str(TABLE)])
            node.run(["ip", f"-{family}", "route", "add", "local", "default", "dev", "lo", "table", str(TABLE)])
        file = node.directory / "haproxy.cfg"
        source = "0.0.0.0" if self.family == 4 else "[::]"
        file.write_text(CONFIGURATION.format(threads=self.threads, port=PORT, any=source))
        log = node.directory / "haproxy.log"
        process = node.start([*MPTCPIZE, "haproxy", "-db", "-f", str(file)], log=log, name="haproxy")
        process.wait_until(lambda: listens(node, PORT))
        node.run(["nft", "-f", "-"], text=RULES.format(device=device, mark=MARK, port=PORT))


class HaproxyWithoutJoins(Haproxy):
    """For short connections: the pair joins none that stays small, which HAProxy can only leave for all."""

    name = "HAProxy, no joins"
    joins = False
