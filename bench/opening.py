# SPDX-License-Identifier: GPL-2.0-or-later
"""How long opening a connection takes while others are opened at a given rate."""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence

from bench.bed import PAGE, Bed
from bench.results import Sample
from lab.errors import LabError
from lab.process import python_path


def measure(bed: Bed, rate: float, seconds: float) -> Sample:
    """`rate` in connections per second. LabError if all fail."""
    environment = [f"{name}={value}" for name, value in python_path().items()]
    command = ["env", *environment, sys.executable, "-m", "bench.opener"]
    command += [bed.server, str(bed.web.PORT), PAGE, f"{rate:.1f}", f"{seconds:.1f}"]
    times = json.loads(bed.lab.client.run(command).stdout)
    if not times["handshake"]:
        raise LabError(f"{bed.name}: all of {times['failed']} connections failed")
    return figures(times, times["failed"])


def figures(times: Mapping[str, Sequence[float]], failed: int) -> Sample:
    """Milliseconds; how many came to their end, and how many did not."""
    return {
        "handshake_p50": quantile(times["handshake"], 50),
        "handshake_p99": quantile(times["handshake"], 99),
        "answered_p50": quantile(times["answered"], 50),
        "answered_p99": quantile(times["answered"], 99),
        "connections": len(times["handshake"]),
        "failed": failed,
    }


def quantile(values: Sequence[float], percent: int) -> float:
    """Between the values' lowest and highest, both included; a single value is every quantile of it."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
