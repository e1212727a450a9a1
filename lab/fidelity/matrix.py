# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of the matrix, and how they are run. Each module of `lab.fidelity` may hold some, see `row`."""

import contextlib
import importlib
import pkgutil
import re
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lab import fidelity as package
from lab.bonded import Pair
from lab.errors import LabError, SystemLacksError
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

    @property
    def verdict(self) -> str:
        return "WRONG" if self.wrong else "skipped" if self.skipped else "ok"

    @property
    def why(self) -> str:
        """Empty where all is well."""
        return self.wrong or self.skipped

    def report(self) -> dict[str, Any]:
        """For programs; 'why' is there only when there is something to say."""
        fields: dict[str, Any] = {"row": self.row.number, "name": self.row.name, "ok": self.ok, "ms": round(self.ms, 1)}
        if self.skipped:
            fields["skipped"] = True
        if self.why:
            fields["why"] = self.why
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


class Pairs:
    """A context manager: the running pair that a row asks for. One at a time is kept, for the next row."""

    def __init__(self) -> None:
        self._exit = contextlib.ExitStack()
        self._setup: Setup | None = None
        self._pair: Pair | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, setup: Setup) -> Pair:
        """LabError if it cannot be built."""
        if self._pair is None or self._setup != setup:
            self.close()
            self._pair = self._exit.enter_context(setup())
            self._setup = setup
        return self._pair

    def close(self) -> None:
        self._pair = None
        self._exit.close()


def run(
    rows: Sequence[Row], family: int, pairs: Pairs, begins: Callable[[Row], None] = lambda _row: None
) -> Iterator[Outcome]:
    """Runs the rows, those that share a pair one after the other; `begins` hears of each before it is run."""
    for _, group in grouped(rows):
        for it in group:
            begins(it)
            yield run_row(it, pairs, family)


def run_row(it: Row, pairs: Pairs, family: int) -> Outcome:
    """Runs one row, in which anything may go wrong; afterwards both daemons must be as they were.

    A pair in which a row went wrong is not kept: the next row is not to suffer from it.
    """
    began = time.monotonic()
    wrong = skipped = ""
    try:
        pair = pairs.get(it.setup)
        began = time.monotonic()  # building is not the row's time
        with Bench(pair, family) as bench:
            it.check(bench)
            bench.close()
            bench.nothing_left()
    except (Skip, SystemLacksError) as obstacle:
        skipped = str(obstacle)
    except (Mismatch, LabError) as error:
        wrong = str(error) or repr(error)
    except Exception as error:
        wrong = _where(error)
    ms = (time.monotonic() - began) * 1000
    if wrong:
        try:
            pairs.close()
        except Exception as error:
            wrong += f"; and the pair could not be removed: {error}"
    return Outcome(it, ms, wrong, skipped)


def _where(error: Exception) -> str:
    """An error that nobody foresaw, in one sentence with the row's line that met it."""
    inside = str(Path(package.__file__ or "").parent)
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(inside)]
    place = f" at {Path(ours[-1].filename).name} line {ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}: {error}{place}"


def _order(number: str) -> tuple[int, str]:
    match = re.fullmatch(r"(\d+)([a-z]*)", number)
    assert match, f"'{number}' is not a number such as 8c"
    return int(match[1]), match[2]
