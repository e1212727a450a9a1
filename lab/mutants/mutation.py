# SPDX-License-Identifier: GPL-2.0-or-later
"""One deliberate fault as a change of source text, and what the matrix says of a copy of the checkout that has it."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.process import CHECKOUT, Process

SOURCES = ("common", "cpe", "ctl", "hag", "lab", "nftables")
TIMEOUT = 300.0  # seconds for the rows of one mutation


class Drifted(LabError):
    """The source is not what the mutation was made for."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """The fault that `name` says: `old`, which `file` has exactly once, becomes `new`. Every row named must see it."""

    name: str
    file: str
    old: str
    new: str
    rows: tuple[str, ...]
    family: int = 4

    def applied(self, source: str) -> str:
        """The text with the fault in it. Raises Drifted."""
        if (count := source.count(self.old)) != 1:
            raise Drifted(f"mutant {self.name} cannot be made: {self.file} has {count} times what it replaces")
        return source.replace(self.old, self.new)

    def apply(self, checkout: Path) -> None:
        path = checkout / self.file
        path.write_text(self.applied(path.read_text()))


@dataclass(frozen=True, slots=True)
class Sight:
    """What the rows say of a checkout: why each of them is red, and why those could not be run that could not."""

    red: dict[str, str]
    skipped: dict[str, str]


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of this checkout's sources, for as long as it lasts."""
    with tempfile.TemporaryDirectory(prefix="hybrid-mutant-") as name:
        for folder in SOURCES:
            shutil.copytree(CHECKOUT / folder, Path(name, folder), ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(name)


def look(rows: Sequence[str], family: int, mutation: Mutation | None = None) -> Sight:
    """Runs these rows with lab and daemons of a copy, which has the fault if one is given. Raises LabError."""
    with copied() as checkout:
        if mutation:
            mutation.apply(checkout)
        return sight(run(checkout, rows, family))


def run(checkout: Path, rows: Sequence[str], family: int) -> list[dict[str, Any]]:
    """What `hybrid-lab run fidelity` of that checkout reports of these rows."""
    command = [sys.executable, "-m", "lab", "run", "fidelity", "--json", "--family", str(family)]
    # Safe path: else the current directory, which may be our own checkout, comes first.
    environment = {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    arguments = [word for row in rows for word in ("--row", row)]
    process = Process([*command, *arguments], environment=environment, name="hybrid-lab")
    try:
        process.wait(TIMEOUT)
        said = process.output()
    finally:
        process.close()
    reports = [json.loads(line) for line in said.splitlines() if line.startswith('{"scenario"')]
    if not reports or "rows" not in reports[0]:
        raise LabError(f"the matrix was not run: {said.strip()[-1000:]}")
    found: list[dict[str, Any]] = reports[0]["rows"]
    return found


def sight(reports: Sequence[dict[str, Any]]) -> Sight:
    return Sight(
        {report["row"]: report["why"] for report in reports if not report["ok"]},
        {report["row"]: report["why"] for report in reports if report.get("skipped")},
    )


def complaint(mutation: Mutation, seen: Sight) -> str:
    """What is to be said against the rows: that one of them did not see the fault. Empty if they all did."""
    words = []
    if blind := [row for row in mutation.rows if row not in seen.red and row not in seen.skipped]:
        words.append(f"not seen by {' '.join(blind)}")
    words += [f"{row} cannot be run here: {why}" for row, why in seen.skipped.items()]
    # A daemon that stumbles over the fault proves nothing about what the fault does to connections.
    words += [f"the daemon fails in {row} instead" for row, why in seen.red.items() if "Traceback" in why]
    return "; ".join(words)
