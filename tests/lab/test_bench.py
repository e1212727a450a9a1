# SPDX-License-Identifier: GPL-2.0-or-later
"""The smallest measurement of the pair itself: what the bench needs of the lab and of the load generators is there."""

import pytest

from bench import opening, throughput
from bench.bed import Bed
from bench.hybrid import Hybrid
from bench.peer import Peer

pytestmark = pytest.mark.root


def test_pair() -> None:
    with Bed(Hybrid) as bed:
        moved = throughput.measure(bed, "down", flows=1, seconds=1)
        opened = opening.measure(bed, rate=50, seconds=0.5)
    assert moved["gbit"] > 0
    assert moved["cpu_per_gb"] > 0
    assert 0 < moved["lte_share"] < 1
    assert opened["failed"] == 0
    assert 0 < opened["handshake_p50"] <= opened["handshake_p99"]
    assert opened["handshake_p50"] < opened["answered_p50"]


def test_plain_forwarding() -> None:
    with Bed(Peer) as bed:
        opened = opening.measure(bed, rate=50, seconds=0.5)
        assert (opened["failed"], bed.box_pids()) == (0, [])
