# SPDX-License-Identifier: GPL-2.0-or-later
"""What hybridctl shows: a daemon's answer in, the exact text out."""

from typing import Any

import pytest

from common import config
from ctl import display
from ctl.terminal import plain

CPE = "config cpe\n list lan 'br-lan'\n"
XDSL = "config link 'xdsl'\n option device 'pppoe-wan'\n option role 'primary'\n"
LTE = "config link 'lte'\n option device 'wwan0'\n option role 'secondary'\n"
HAG = "config hag\n list access 'v100'\n option join_device 'v200'\n list subscriber '192.0.2.0/24'\n"
MORE = " list access 'v101'\n list subscriber '2001:db8:1000::/36'\n"

CPE_STATUS: dict[str, Any] = {
    "role": "cpe",
    "version": "0.1.0",
    "pid": 1945,
    "lan": ["br-lan", "br-guest"],
    "steering": "always",
    "links": [
        {
            "name": "xdsl",
            "device": "pppoe-wan",
            "role": "primary",
            "addresses": ["198.51.100.2", "2001:db8:2000:1::2"],
            "up": True,
            "reason": None,
            "since": 3600.5,
        },
        {
            "name": "lte",
            "interface": "modem",
            "device": None,
            "role": "secondary",
            "addresses": [],
            "up": False,
            "reason": "interface 'modem' has no device",
            "since": 0.2,
        },
    ],
    "workers": [{"worker": 0, "pid": 1946, "flows": 1}, {"worker": 1, "pid": 1947, "flows": 11}],
    "flows": 12,
    "max_flows": 13162,
    "counters": {
        "moved: to another worker": 1,
        "opened: bonded": 1200,
        "opened: plain TCP": 34,
        "passed: cannot connect: Network is unreachable": 15,
        "passed: bypass 'voip'": 15,
        "passed: private or special destination": 40,
        "plain: the other end or the path takes no Multipath TCP": 34,
        "refused: no answer": 2,
        "refused: reset": 31,
        "reset": 5,
        "reset: nobody waits for it": 2,
    },
    "avoided": [{"destination": "203.0.113.9", "seconds": 599}, {"host": "192.0.2.10", "seconds": 7200}],
}

CPE_TEXT = """\
daemon: hybrid-cpe
  version: 0.1.0
  process: 1945
  lan: br-lan, br-guest
  steering: always
  connections now: 12 of at most 13162

link: xdsl
  role: primary
  device: pppoe-wan
  state: up for 1 hour
  addresses: 198.51.100.2, 2001:db8:2000:1::2

link: lte
  role: secondary
  interface: modem
  device: none
  state: down for under a second
  why: interface 'modem' has no device

workers: 2
  process 1946: 1 connection
  process 1947: 11 connections

opened: 1234
  bonded: 1200
  plain TCP: 34

opened as plain TCP, and why: 34
  the other end or the path takes no Multipath TCP: 34

passed unbonded: 70
  private or special destination: 40
  bypass 'voip': 15
  cannot connect: Network is unreachable: 15

refused: 33
  reset: 31
  no answer: 2

reset: 7
  other: 5
  nobody waits for it: 2

moved: 1
  to another worker: 1

not bonded for now: 2
  to 203.0.113.9: 9 minutes, 59 seconds
  from 192.0.2.10: 2 hours"""

LINKS = [
    {
        **CPE_STATUS["links"][0],
        "target": "203.0.113.1",
        "answers": True,
        "sent": 14400,
        "lost": 3,
        "rtt_ms": 31.0,
        "smoothed_rtt_ms": 30.25,
        "not_probed": None,
        "down_rate": 12345678,
        "up_rate": 41000,
    },
    {
        **CPE_STATUS["links"][1],
        "target": None,
        "answers": None,
        "sent": 0,
        "lost": 0,
        "rtt_ms": None,
        "smoothed_rtt_ms": None,
        "not_probed": "the link is down",
        "down_rate": None,
        "up_rate": None,
    },
]

LINKS_TEXT = """\
link: xdsl
  role: primary
  device: pppoe-wan
  state: up for 1 hour
  addresses: 198.51.100.2, 2001:db8:2000:1::2
  probes: to 203.0.113.1, 14400 sent, 3 lost
  round trip: 31.0 ms, 30.2 ms smoothed
  rate: 12.3 Mbit/s down, 41.0 kbit/s up

link: lte
  role: secondary
  interface: modem
  device: none
  state: down for under a second
  why: interface 'modem' has no device
  probes: none, the link is down"""

HAG_STATUS = {
    "role": "hag",
    "version": "0.1.0",
    "pid": 1936,
    "access": ["v100"],
    "join": [{"address": "198.51.100.65", "port": 9001}, {"address": "2001:db8:2000:2::1", "port": 9001}],
    "subscribers": ["198.51.100.0/26", "2001:db8:1000::/36"],
    "workers": [{"worker": 0, "pid": 1937, "flows": 0}],
    "flows": 0,
    "max_flows": 6581,
    "counters": {"reset": 1},
    "avoided": [],
}

HAG_TEXT = """\
<daemon:> hybrid-hag
  <version:> 0.1.0
  <process:> 1936
  <access:> v100
  <subflows at:> 198.51.100.65:9001, [2001:db8:2000:2::1]:9001
  <subscribers:> 198.51.100.0/26, 2001:db8:1000::/36
  <connections now:> 0 of at most 6581

<workers:> 1
  <process 1937:> 0 connections

<reset:> 1"""


def marked(text: str) -> str:
    """Bold that one can see in a test."""
    return f"<{text}>"


def flow(client: str, server: str, age: float, **more: Any) -> dict[str, Any]:
    return {
        "client": client,
        "client_port": 45850,
        "server": server,
        "server_port": 443,
        "state": "open",
        "age": age,
        "up_bytes": 84,
        "down_bytes": 2000260,
        "up_kept": 0,
        "down_kept": 0,
        "up_held": 0,
        "down_held": 0,
        "subflows": 0,
        "bonded": False,
        "backups": [],
        "why": None,
        **more,
    }


CPE_FLOWS = [
    flow("192.0.2.10", "203.0.113.10", 0.2, state="held", up_bytes=0, down_bytes=0, links=["xdsl"]),
    flow("192.0.2.10", "203.0.113.9", 7380, down_bytes=1363656000, up_held=1500, down_held=1148000, links=["xdsl"]),
    flow("2001:db8:1000:1::10", "2001:db8::10", 72, bonded=True, subflows=2, links=["xdsl", "lte"]),
    flow("192.0.2.11", "203.0.113.10", 9, bonded=True, subflows=2, links=["xdsl", "lte"], backups=["lte"]),
]

CPE_TABLE = """\
<CLIENT                       SERVER              STATE  LINKS               UP      DOWN      HELD  AGE>
192.0.2.10:45850             203.0.113.9:443     open   xdsl (plain TCP)  84 B  1.27 GiB  1.10 MiB  2 hours, 3 minutes
[2001:db8:1000:1::10]:45850  [2001:db8::10]:443  open   xdsl+lte          84 B  1.91 MiB       0 B  1 minute, 12 seconds
192.0.2.11:45850             203.0.113.10:443    open   xdsl+(lte)        84 B  1.91 MiB       0 B  9 seconds
192.0.2.10:45850             203.0.113.10:443    held   xdsl               0 B       0 B       0 B  under a second"""

HAG_FLOWS = [
    flow("192.0.2.10", "203.0.113.10", 3, state="half-up", bonded=True, subflows=2),
    flow("192.0.2.10", "203.0.113.10", 2, why="it goes on without"),
    flow("192.0.2.10", "203.0.113.10", 1, state="released"),
]

HAG_TABLE = """\
CLIENT            SERVER            STATE     SUBFLOWS     UP      DOWN  HELD  AGE        WHY
192.0.2.10:45850  203.0.113.10:443  half-up   2          84 B  1.91 MiB   0 B  3 seconds
192.0.2.10:45850  203.0.113.10:443  open      plain TCP  84 B  1.91 MiB   0 B  2 seconds  it goes on without
192.0.2.10:45850  203.0.113.10:443  released  -          84 B  1.91 MiB   0 B  1 second"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (CPE + XDSL, "cpe with link xdsl (primary)"),
        (CPE + LTE + XDSL, "cpe with links lte (secondary), xdsl (primary)"),
        (HAG, "hag for 1 subscriber prefix at v100"),
        (HAG + MORE, "hag for 2 subscriber prefixes at v100, v101"),
        (HAG + CPE + XDSL, "cpe with link xdsl (primary); hag for 1 subscriber prefix at v100"),
    ],
)
def test_configuration(text: str, shown: str) -> None:
    assert display.configuration(config.parse(text, "f")) == shown


def test_status_of_a_cpe() -> None:
    assert display.status(CPE_STATUS, plain) == CPE_TEXT


def test_status_of_a_hag_has_bold_keys() -> None:
    assert display.status(HAG_STATUS, marked) == HAG_TEXT


def test_flows_of_a_cpe_are_oldest_first() -> None:
    assert display.flows("cpe", CPE_FLOWS, marked) == CPE_TABLE


def test_flows_of_a_hag() -> None:
    assert display.flows("hag", HAG_FLOWS, plain) == HAG_TABLE


def test_titled_flows() -> None:
    assert display.titled_flows("hag", HAG_FLOWS, plain) == f"hybrid-hag:\n{HAG_TABLE}"


def test_no_flows_are_a_sentence() -> None:
    assert display.flows("cpe", [], marked) == "hybrid-cpe relays no connections."
    assert display.titled_flows("cpe", [], marked) == "hybrid-cpe relays no connections."


def test_links() -> None:
    assert display.links(LINKS, plain) == LINKS_TEXT
    silent = {**LINKS[0], "answers": False, "rtt_ms": None}
    assert "probes: to 203.0.113.1, 14400 sent, 3 lost, no answer so far\n  rate:" in display.links([silent], plain)


POLICY: dict[str, Any] = {
    "steering": "overflow",
    "configured": "overflow",
    "modes": [
        {
            "mode": "overflow",
            "links": [
                {"name": "xdsl", "use": "carry", "reason": "comes first"},
                {"name": "lte", "use": "backup", "reason": "not needed so far"},
            ],
        }
    ],
    "links": [
        {
            "name": "xdsl",
            "down_rate": 9_640_000,
            "up_rate": 300_000,
            "down_capacity": 20_000_000,
            "up_capacity": 5_000_000,
        },
        {"name": "lte", "down_rate": None, "up_rate": None, "down_capacity": None, "up_capacity": 1_000_000},
    ],
    "policies": [
        {
            "name": "policy 'games'",
            "steering": "smallest-delay",
            "dport": ["27000-27100", "80"],
            "dst": [],
            "src": ["192.168.1.5/32"],
            "dscp": 0,
            "device": [],
        }
    ],
}

POLICY_TEXT = """\
<steering:> overflow

<mode:> overflow
  <xdsl:> carry, comes first
  <lte:> backup, not needed so far

<link:> xdsl
  <down:> 9.6 Mbit/s, of 20.0 Mbit/s
  <up:> 300.0 kbit/s, of 5.0 Mbit/s

<link:> lte
  <down:> not measured now
  <up:> not measured now, of 1.0 Mbit/s

<policy 'games':> smallest-delay
  <dport:> 27000-27100, 80
  <src:> 192.168.1.5/32
  <dscp:> 0"""


def test_policy() -> None:
    assert display.policy(POLICY, marked) == POLICY_TEXT


def test_a_mode_that_is_not_the_configured_one() -> None:
    answer = {**POLICY, "steering": "always"}
    assert display.steering(answer) == "always, for now (the configuration has overflow)"


def test_what_bounds_a_link() -> None:
    bounds = {
        "allowed": "failover only",
        "reason": "its 50.00 GB are used up until 2026-12-01",
        "max_rate": 5_000_000,
        "used": 50_300_000_000,
        "limit": 50_000_000_000,
        "resets": "2026-12-01",
    }
    answer: Any = CPE_STATUS | {"links": [CPE_STATUS["links"][0] | {"bounds": bounds}]}  # type: ignore[index, operator]
    assert """\
  addresses: 198.51.100.2, 2001:db8:2000:1::2
  may be used: for failover, its 50.00 GB are used up until 2026-12-01
  no more than: 5 Mbit/s
  quota: 50.30 GB of 50.00 GB used, begins anew on 2026-12-01
""" in display.status(answer, plain)
    bounds |= {"allowed": "full", "reason": None, "max_rate": None, "limit": None}
    assert "  may be used: yes\n\nworkers" in display.status(answer, plain)
