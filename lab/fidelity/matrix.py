# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of the matrix, and how they are run. Each module of `lab.fidelity` may hold some, see `row`."""

import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from lab import fidelity as package
from lab.bonded import Pair
from lab.errors import LabError
from lab.fidelity.bench import Bench, Mismatch

Setup = Callable[[], Pair]  # rows with the same one share a pair

_ROWS: Final[list["Row"]] = []


class Skip(Exception):
    """A row that cannot be run here; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the matrix: `check` raises Mismatch where the pair can be told from plain forwarding."""

    number: str  # such as 8c: the issue of the same kind share a number
    name: str
    check: Callable[[Bench], None]
    setup: Setup
    slow: bool  # takes more than some seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    row: Row
    ms: float
    wrong: str = ""
    skipped: str = ""

    @property
    def ok(self) -> bool:
        return not self.wrong

    def report(self) -> dict[str, Any]:
        """For programs; 'why' is there only when there is something to say."""
        fields: dict[str, Any] = {"row": self.row.number, "name": self.row.name, "ok": self.ok, "ms": round(self.ms, 1)}
        if self.skipped:
            fields["skipped"] = True
        if why := self.wrong or self.skipped:
            fields["why"] = why
        return fields


def row(
    number: str, name: str, *, setup: Setup = Pair, slow: bool = False
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Makes a function a row of the matrix."""

    def register(check: Callable[[Bench], None]) -> Callable[[Bench], None]:
        _ROWS.append(Row(number, name, check, setup, slow))
        return check

    return register


def all_rows() -> list[Row]:
    """Every row there is, in the order of their numbers."""
    for found in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{found.name}")
    numbers = [it.number for it in _ROWS]
    assert len(numbers) == len(set(numbers)), "a number is given twice"
    return sorted(_ROWS, key=lambda it: _order(it.number))


def grouped(rows: Sequence[Row]) -> Iterator[tuple[Setup, list[Row]]]:
    """The rows by the pair that they share, in the order of the first row of each."""
    setups = list(dict.fromkeys(it.setup for it in rows))
    for setup, group in groupby(sorted(rows, key=lambda it: setups.index(it.setup)), key=lambda it: it.setup):
        yield setup, list(group)


def run(rows: Sequence[Row], family: int) -> Iterator[Outcome]:
    """Builds each pair once, and runs its rows."""
    for setup, group in grouped(rows):
        with setup() as pair:
            for it in group:
                yield run_row(it, pair, family)


def run_row(it: Row, pair: Pair, family: int) -> Outcome:
    """Runs one row; afterwards both daemons must be as they were."""
    began = time.monotonic()
    wrong = skipped = ""
    try:
        with Bench(pair, family) as bench:
            it.check(bench)
            bench.close()
            bench.nothing_left()
    except Skip as skip:
        skipped = str(skip)
    except (Mismatch, LabError, OSError) as error:
        wrong = str(error) or repr(error)
    return Outcome(it, (time.monotonic() - began) * 1000, wrong, skipped)


def _order(number: str) -> tuple[int, str]:
    match = re.fullmatch(r"(\d+)([a-z]*)", number)
    assert match, f"'{number}' is not a number such as 8c"
    return int(match[1]), match[2]
