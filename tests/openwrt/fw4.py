# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's router with the rules that fw4 makes of OpenWrt's /etc/config/firewall, in the place of the lab's own.

Zones as they come with OpenWrt: lan (input and forward ACCEPT), wan (input REJECT, forward DROP, masq); and one for
guests as its guides have it (input REJECT, forwarding to wan). A port of a host on the LAN can be had from outside,
by a redirect over IPv4 and a rule over IPv6. The chains, their order and the limit for SYNs are those of fw4's
root/usr/share/firewall4/templates/ruleset.uc; what makes no difference here (flow offloading, logs) is left out.
"""

from pathlib import Path
from typing import Final

from lab.topology import Lab

SNIPPET: Final = Path(__file__).parents[2] / "openwrt/hybrid-access/files/hybrid-access.nft"

_RULES: Final = """\
table inet fw4 {{
  chain input {{
    type filter hook input priority filter; policy drop
    iifname "lo" accept
    {include}
    ct state vmap {{ established : accept, related : accept }}
    tcp flags & (fin | syn | rst | ack) == syn jump syn_flood
    meta l4proto ipv6-icmp accept
    iifname "lan" jump input_lan
    iifname "guest" jump handle_reject
    iifname {{ "xdsl", "lte" }} jump handle_reject
    jump handle_reject
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop
    ct state vmap {{ established : accept, related : accept }}
    iifname "lan" jump forward_lan
    iifname "guest" jump accept_to_wan
    iifname {{ "xdsl", "lte" }} jump forward_wan
    jump handle_reject
  }}
  chain output {{
    type filter hook output priority filter; policy accept
    oifname "lo" accept
    ct state vmap {{ established : accept, related : accept }}
    oifname {{ "xdsl", "lte" }} jump accept_to_wan
  }}
  chain handle_reject {{
    meta l4proto tcp reject with tcp reset
    reject with icmpx type port-unreachable
  }}
  chain syn_flood {{
    limit rate 25/second burst 50 packets return
    drop
  }}
  chain input_lan {{
    iifname "lan" accept
  }}
  chain forward_lan {{
    {rule}
    jump accept_to_wan
  }}
  chain forward_wan {{
    ip6 daddr 2001:db8:1000:1::10 tcp dport {inside} accept
    ct status dnat accept
    drop
  }}
  chain dstnat {{
    type nat hook prerouting priority dstnat; policy accept
    iifname "xdsl" meta nfproto ipv4 tcp dport {outside} dnat ip to 192.0.2.10:{inside}
  }}
  chain accept_to_wan {{
    meta nfproto ipv4 oifname {{ "xdsl", "lte" }} ct state invalid drop
    oifname {{ "xdsl", "lte" }} accept
  }}
  chain srcnat {{
    type nat hook postrouting priority srcnat; policy accept
    oifname {{ "xdsl", "lte" }} meta nfproto ipv4 masquerade
  }}
}}
"""


INSIDE, OUTSIDE = 8080, 80


def rules(*, snippet: bool, rule: str = "") -> str:
    """``rule`` is one of the user's own for what the LAN sends to the Internet (src lan, dest wan)."""
    return _RULES.format(include=f'include "{SNIPPET}"' if snippet else "", rule=rule, inside=INSIDE, outside=OUTSIDE)


def load(lab: Lab, *, snippet: bool, rule: str = "") -> None:
    """In the place of what the router has."""
    tables = ("inet lab_firewall", "ip lab_nat", "ip lab_forwards", "inet fw4")
    lines = [f"{verb} table {table}" for table in tables for verb in ("add", "delete")]
    lab.cpe.run(["nft", "-f", "-"], text="\n".join([*lines, rules(snippet=snippet, rule=rule)]))
