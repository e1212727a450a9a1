# SPDX-License-Identifier: GPL-2.0-or-later
"""What other people have on a box that a daemon shares with them: of every kind that the daemon has too."""

from lab.node import Node

NFT = """\
table inet neighbour {
	chain prerouting {
		type filter hook prerouting priority mangle; policy accept;
		tcp dport 4711 meta mark set meta mark & 0xff000000 | 0x00000017 comment "not hybrid-access"
	}
}
"""
ENDPOINT = "192.0.2.99"
ROUTING = """\
rule add priority 100 fwmark 0x17/0xff lookup 77
route add default dev lo table 77
"""
MATCH = ["-p", "udp", "--dport", "4711", "-m", "comment", "--comment", "no rule of hybrid-access is this"]

# None of them the kernel's default, nor what a daemon sets.
SETTINGS: dict[str, str | int] = {"mptcp/blackhole_timeout": 1234, "ipv4/tcp_tw_reuse": 0}


def move_in(node: Node) -> None:
    """Puts it there: nftables, iptables, rules, routes, an endpoint, limits and settings."""
    node.run(["nft", "-f", "-"], text=NFT)
    for iptables in ("iptables", "ip6tables"):
        node.run([iptables, "-w", "-t", "mangle", "-A", "PREROUTING", *MATCH, "-j", "MARK", "--or-mark", "1"])
    for family in ("-4", "-6"):
        node.run(["ip", family, "-batch", "-"], text=ROUTING)
    node.configure([f"mptcp endpoint add {ENDPOINT} subflow", "mptcp limits set subflow 3 add_addr_accepted 1"])
    # The path manager that the daemon does not want: the CPE's user has the kernel's, the HAG's user the other.
    node.sysctl({**SETTINGS, "mptcp/pm_type": 0 if node.label == "cpe" else 1})
