# SPDX-License-Identifier: GPL-2.0-or-later
"""iperf3 through a peer: the rate, and what it costs."""

from typing import Any

from bench import cpu
from bench.bed import Bed
from bench.results import Sample
from lab.access import Way
from lab.counters import mptcp_counter, received_bytes
from lab.errors import LabError

GB = 1e9
STALLED = 20.0  # seconds after its end in which a measurement that still runs is one whose flows stand still


def measure(bed: Bed, way: Way, flows: int, seconds: int) -> Sample:
    """LabError if a peer that bonds did not: its figure would be another thing's."""
    options = ["--time", str(seconds), "--parallel", str(flows), *(["--reverse"] if way == "down" else [])]
    joined, shares = _joins(bed), _received(bed, way)
    before = cpu.look(bed.box_pids())
    report = bed.iperf.measure(bed.lab.client, bed.family, *options, timeout=seconds + STALLED)
    spent = cpu.look(bed.box_pids()).since(before)
    if bed.peer.joining and _joins(bed) < joined + flows:
        raise LabError(f"{bed.name}: {_joins(bed) - joined} second subflows for {flows} flows")
    sample = figures(report, spent)
    first, second = (now - then for now, then in zip(_received(bed, way), shares, strict=True))
    return {**sample, "lte_share": second / (first + second)}


def figures(report: dict[str, Any], spent: cpu.Spent) -> Sample:
    """GB of payload and Gbit/s as the receiver saw them, seconds of CPU per GB, share of softirqs in the machine's."""
    received = report["end"]["sum_received"]
    size = received["bytes"] / GB
    return {
        "gb": size,
        "gbit": received["bits_per_second"] / 1e9,
        "cpu_per_gb": spent.processes / size,
        "machine_cpu_per_gb": spent.busy / size,
        "softirq_share": spent.softirq / spent.busy,
    }


def _joins(bed: Bed) -> int:
    """Subflows that were answered so far."""
    return mptcp_counter(bed.peer.joining, "MPJoinSynAckRx") if bed.peer.joining else 0


def _received(bed: Bed, way: Way) -> tuple[int, int]:
    """Bytes that have arrived by xDSL and by LTE."""
    node = bed.lab.hag if way == "up" else bed.lab.cpe
    return received_bytes(node, "xdsl"), received_bytes(node, "lte")
