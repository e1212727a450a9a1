# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on the DSCP that a client gives its packets."""

import json
import socket

from lab.fidelity.bench import Bench, equal, exchange, expect
from lab.fidelity.matrix import row
from lab.node import Node

AF41 = 34
JOIN_PORT = 9001
IPV6_TCLASS = 67  # include/uapi/linux/in6.h

# What comes in by a device for a port, by its DSCP.
TABLE = """\
table inet dscp_{device} {{
	counter kept {{ }}
	counter other {{ }}
	chain in {{
		type filter hook prerouting priority -400; policy accept;
		iifname {device} tcp dport {port} jump to_port
	}}
	chain to_port {{
		ip dscp {dscp} counter name kept return
		ip6 dscp {dscp} counter name kept return
		counter name other
	}}
}}
"""


class Watch:
    """Counts what comes in by a device of a node for a TCP port, until the row is over."""

    def __init__(self, bench: Bench, node: Node, device: str, port: int, dscp: int) -> None:
        self._node = node
        self.device = device
        self._table = ["table", "inet", f"dscp_{device}"]
        node.run(["nft", "-f", "-"], text=TABLE.format(device=device, port=port, dscp=dscp))
        bench.undo(lambda: node.run(["nft", "delete", *self._table]))

    def counts(self) -> dict[str, int]:
        """Packets: 'kept' have that DSCP, 'other' have not."""
        listed = json.loads(self._node.run(["nft", "-j", "list", "counters", *self._table]).stdout)
        found = [one["counter"] for one in listed["nftables"] if "counter" in one]
        return {one["name"]: one["packets"] for one in found}


@row("10a", "the server gets the client's DSCP, and both accesses do")
def client_dscp(bench: Bench) -> None:
    options = {4: (socket.IPPROTO_IP, socket.IP_TOS, AF41 << 2), 6: (socket.IPPROTO_IPV6, IPV6_TCLASS, AF41 << 2)}
    listener = bench.listen()
    port = listener.getsockname()[1]
    watches = [
        Watch(bench, bench.lab.hag, "xdsl", port, AF41),
        Watch(bench, bench.lab.hag, "lte", JOIN_PORT, AF41),
        Watch(bench, bench.lab.server, "core", port, AF41),
    ]
    ends = bench.connect(listener=listener, options=[options[bench.family]])
    for seed in range(3):
        exchange(ends, 100_000, seed)  # enough for a subflow over LTE
    bench.bonded(ends)
    for watch in watches:
        counts = watch.counts()
        expect(counts["kept"] > 10, f"{watch.device}: only {counts['kept']} packets with the client's DSCP")
        equal(f"{watch.device}: packets with another DSCP", counts["other"], 0)
