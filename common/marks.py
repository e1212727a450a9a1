# SPDX-License-Identifier: GPL-2.0-or-later
"""Packet marks: how a packet's fate travels between nftables, the queue and policy routing.

We use the top byte and leave the other 24 bits to whoever else marks packets on the box (mwan3, SQM, ...).
"""

from __future__ import annotations

from typing import Final

from common.flow import Refusal

MASK: Final = 0xFF000000

_QUEUED: Final = 0x01000000  # a SYN for the queue of a worker, where nftables cannot choose the queue itself
GATE: Final = 0x48000000  # a SYN that the queue rule takes
GATE_INBOUND: Final = 0x47000000  # the same where packets are forwarded, for connections from the Internet
DELIVER: Final = 0x49000000  # belongs to a socket of ours: the routing rule sends it to this host
_REFUSE: Final = 0x4A000000
INNER_LEG: Final = 0x4F000000  # what the server legs of connections from the Internet send
_SERVER_LEG: Final = 0x50000000  # what the server legs send; on the CPE by the link of the first subflow
_RELEASE: Final = 0x60000000  # a SYN for the listener of a worker
_REPLAY: Final = 0xA0000000  # the same, see common/replay.py
REPLAYED: Final = 0x80000000  # the bit of what leaves this host only to come back in

_BEGAN: Final = 0x41000000  # what is forwarded by a link since its connection began there

MAX_LINKS: Final = 16
MAX_BEGAN: Final = 6  # links that have such a mark
MAX_WORKERS: Final = 64

# SILENCE has no mark: such a SYN is dropped where it waits.
REFUSE: Final[dict[Refusal, int]] = {
    Refusal.RESET: _REFUSE,
    Refusal.HOST_UNREACHABLE: _REFUSE + 0x01000000,
    Refusal.NO_ROUTE: _REFUSE + 0x02000000,
    Refusal.PROHIBITED: _REFUSE + 0x03000000,
}


def queued(worker: int) -> int:
    """The mark of SYNs for the queue of ``worker`` (0 ... MAX_WORKERS - 1)."""
    return _QUEUED + (worker << 24)


def release(worker: int) -> int:
    """The mark of SYNs for the listener of ``worker`` (0 ... MAX_WORKERS - 1)."""
    return _RELEASE + (worker << 24)


def replay(worker: int) -> int:
    """The mark of SYNs that begin again, for the other listener of ``worker``."""
    return _REPLAY + (worker << 24)


def server_leg(link: int = 0) -> int:
    """The mark of what a server leg sends by the link with this place in the configuration (0 ... MAX_LINKS - 1)."""
    return _SERVER_LEG + (link << 24)


def began(link: int) -> int:
    """The mark of what is forwarded by the link with this place (0 ... MAX_BEGAN - 1), wherever all else goes."""
    return _BEGAN + (link << 24)


def with_dscp(server_leg: int, dscp: int) -> int:
    """The mark of a server leg whose packets are to have this DSCP.

    It has the third byte too, then: routing rules of others that match there meet it when the packet's route is looked
    up, and so do their rules for output before ours (chain dscp in nftables/deliver.nft), which takes it away.
    """
    return server_leg | dscp << 16


def combine(packet: int, ours: int) -> int:
    """``ours`` in the byte that is ours, the rest as the packet has it."""
    return packet & ~MASK | ours
