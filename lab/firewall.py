# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules that the boxes have anyway, without us: a home router's firewall and NAT, a gateway's firewall.

Both are stateful and drop what they do not know, as they do in the field: what the daemons need of a firewall shows.
"""

CPE = """\
table inet lab_firewall {
  chain input {
    type filter hook input priority filter; policy drop
    iifname "lo" accept
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname { "lan", "guest" } accept
    meta l4proto { icmp, ipv6-icmp } accept
  }
  chain forward {
    type filter hook forward priority filter; policy drop
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname { "lan", "guest" } oifname { "xdsl", "lte" } accept
  }
}
table ip lab_nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    oifname { "xdsl", "lte" } masquerade comment "lab: the subscriber's NAT"
  }
}
"""

HAG = """\
table inet lab_firewall {
  chain input {
    type filter hook input priority filter; policy drop
    iifname "lo" accept
    ct state established,related accept
    meta mark & 0xff000000 == 0x49000000 accept comment "legs of hybrid-hag"
    iifname { "xdsl", "lte" } tcp dport 9001 accept comment "subflows"
    meta l4proto { icmp, ipv6-icmp } accept
  }
  chain forward {
    type filter hook forward priority filter; policy drop
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname { "xdsl", "lte" } oifname "core" accept
  }
}
"""
