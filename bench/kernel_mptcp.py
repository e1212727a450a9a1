# SPDX-License-Identifier: GPL-2.0-or-later
"""Multipath TCP from the client's kernel to the server's: what a bonding box saves them from having to speak.

The client's second address goes by LTE, so its connections have the same two subflows; the boxes only forward.
"""

from bench.peer import MPTCPIZE, Peer
from lab.node import Node

TABLE = 4901


class KernelMptcp(Peer):
    name = "kernel MPTCP end to end"
    programs = ("mptcpize",)
    under = MPTCPIZE

    def start(self) -> None:
        client, cpe, hag, server = self.lab.nodes
        guest = client.address("guest", self.family)
        version = f"-{self.family}"
        cpe.run(["ip", version, "rule", "add", "from", guest, "lookup", str(TABLE)])
        gateway = hag.address("lte", self.family)
        cpe.run(["ip", version, "route", "add", "default", "via", gateway, "dev", "lte", "table", str(TABLE)])
        if self.family == 6:  # IPv4 has the router's address on LTE, by its NAT
            hag.run(["ip", version, "route", "add", f"{guest}/128", "via", cpe.address("lte", 6), "dev", "lte"])
        for node in (client, server):
            node.run(["ip", "mptcp", "limits", "set", "subflows", "1", "add_addr_accepted", "0"])
        client.run(["ip", "mptcp", "endpoint", "add", guest, "dev", "guest", "subflow"])

    @property
    def joining(self) -> Node:
        return self.lab.client
