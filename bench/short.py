# SPDX-License-Identifier: GPL-2.0-or-later
"""Short connections by the thousand, with ApacheBench: each fetches 1 KiB over HTTP/1.0, and the server closes it."""

import re

from bench import cpu
from bench.bed import PAGE, PAGE_SIZE, Bed
from bench.results import Sample
from lab.errors import LabError

AT_ONCE = 50
PATIENCE = 900.0  # seconds for the longest run: a peer that is slow is measured, not given up
_ENDLESS = 10_000_000

_FIGURE = re.compile(r"^([A-Z][A-Za-z0-9 -]+?):\s+([0-9.]+)", re.MULTILINE)


def measure(bed: Bed, seconds: int, address: str = "") -> Sample:
    """As many as go in `seconds`, to another address of the server if one is given."""
    return _run(bed, "-t", str(seconds), "-n", str(_ENDLESS), address=address)


def endure(bed: Bed, connections: int) -> Sample:
    """So many, however long it takes."""
    return _run(bed, "-n", str(connections))


def _run(bed: Bed, *options: str, address: str = "") -> Sample:
    # -r: a connection that fails is counted and does not end the run; -s: one that hangs fails
    command = ["ab", "-q", "-r", "-s", "10", "-c", str(AT_ONCE), *options, bed.web.url(PAGE, bed.family, address)]
    before = cpu.look(bed.box_pids())
    said = bed.lab.client.run(command, timeout=PATIENCE).stdout
    return figures(said, cpu.look(bed.box_pids()).since(before))


def figures(said: str, spent: cpu.Spent) -> Sample:
    """Connections per second, how many and how many of them failed, microseconds of the boxes' CPU for each.

    LabError if ab says something else than expected.
    """
    found = dict(_FIGURE.findall(said))
    try:
        complete, failed = int(found["Complete requests"]), int(found["Failed requests"])
        rate, size = float(found["Requests per second"]), int(found["HTML transferred"])
    except KeyError as error:
        raise LabError(f"ab did not tell its {error}: {said.strip()}") from None
    failed += int(found.get("Non-2xx responses", 0))
    if not failed and size < complete * PAGE_SIZE:
        raise LabError(f"{size} bytes for {complete} responses of {PAGE_SIZE}")
    return {
        "per_second": rate,
        "connections": complete,
        "failed": failed,
        "cpu_us": spent.processes / complete * 1e6 if complete else 0.0,
    }
