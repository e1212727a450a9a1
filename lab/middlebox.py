# SPDX-License-Identifier: GPL-2.0-or-later
"""A box on an access that does not know Multipath TCP: it takes the option out of some packets, or drops them.

It stands before everything else that a node does with what arrives by an access (nftables, at a priority before raw).
"""

from collections.abc import Iterable

from lab.node import Node

TABLE = "inet middlebox"
PAYLOAD = 150  # bytes of a packet that is more than headers with all their options

# Which packets, as matches of nftables
ALL = ""
SYN = "tcp flags & (syn | ack) == syn"
SYN_ACK = "tcp flags & (syn | ack) == (syn | ack)"
THIRD_ACK = f"tcp flags & (syn | ack) == ack tcp option mptcp subtype 0 meta length <= {PAYLOAD}"
ESTABLISHED = "tcp flags & (syn | ack) == ack tcp option mptcp subtype != 0"
DATA = f"tcp flags & syn == 0 meta length > {PAYLOAD}"

STRIP = "reset tcp option mptcp"  # NOPs in its place


def strip(device: str, which: str = ALL, after: int = 0) -> str:
    """A rule that strips the option from these packets, once they have been more than `after` bytes."""
    beyond = f"quota over {after} bytes" if after else ""
    return f"iifname {device} {which} tcp option mptcp exists {beyond} {STRIP}"


def drop(device: str, destinations: Iterable[str] = ()) -> str:
    """A rule that drops SYNs with the option: to these addresses, of one family, to all if none is named."""
    addresses = ", ".join(destinations)
    where = f"{'ip6' if ':' in addresses else 'ip'} daddr {{ {addresses} }}" if addresses else ""
    return f"iifname {device} {SYN} tcp option mptcp exists {where} drop"


def put(node: Node, *rules: str) -> None:
    """These rules, in place of earlier ones."""
    node.run(
        ["nft", "-f", "-"],
        text=f"""\
table {TABLE}
delete table {TABLE}
table {TABLE} {{
	chain arriving {{
		type filter hook prerouting priority raw - 10; policy accept;
		{"; ".join(rules)}
	}}
}}
""",
    )


def remove(node: Node) -> None:
    node.run(["nft", "delete", "table", *TABLE.split()])
