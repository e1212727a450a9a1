# SPDX-License-Identifier: GPL-2.0-or-later
"""How the matrix is run: whatever a row meets is that row's outcome, and the next one gets a pair that works."""

import contextlib
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lab.errors import LabError, SystemLacksError
from lab.fidelity import matrix
from lab.fidelity.bench import Bench, Mismatch
from lab.fidelity.matrix import Pairs, Row, Skip


class Builder:
    """Builds pairs of two daemons that have nothing to do, and keeps a diary of it."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.obstacle: Exception | None = None

    @contextlib.contextmanager
    def build(self) -> Iterator[Any]:
        if self.obstacle:
            raise self.obstacle
        self.diary.append("built")
        yield SimpleNamespace(lab=None, cpe=daemon("cpe"), hag=daemon("hag"))
        self.diary.append("removed")


def daemon(role: str) -> Any:
    return SimpleNamespace(
        role=role,
        name=f"hybrid-{role}",
        log="",
        process=SimpleNamespace(alive=True, pid=os.getpid()),
        status=lambda: {"workers": []},
        control=lambda _command: [],
    )


def row(number: str, builder: Builder, error: BaseException | None = None) -> Row:
    def check(_bench: Bench) -> None:
        builder.diary.append(number)
        if error:
            raise error

    return Row(number, f"row {number}", check, builder.build, slow=False)


@pytest.mark.parametrize(
    ("error", "report"),
    [
        (None, {"ok": True}),
        (Mismatch("it is late"), {"ok": False, "why": "it is late"}),
        (LabError("curl failed"), {"ok": False, "why": "curl failed"}),
        (Skip("no netem here"), {"ok": True, "skipped": True, "why": "no netem here"}),
        (SystemLacksError("no git"), {"ok": True, "skipped": True, "why": "no git"}),
        (ConnectionRefusedError(111, "refused"), {"ok": False, "why": "ConnectionRefusedError: [Errno 111] refused"}),
        (KeyError("x"), {"ok": False, "why": "KeyError: 'x'"}),
        (AssertionError(), {"ok": False, "why": "AssertionError: "}),
    ],
)
def test_outcome_of_what_a_row_meets(error: Exception | None, report: dict[str, Any]) -> None:
    with Pairs() as pairs:
        outcome = matrix.run_row(row("3c", Builder(), error), pairs, 4)
    found = outcome.report()
    assert found.pop("ms") >= 0
    if "why" in found:
        found["why"] = found["why"].partition(" at matrix.py")[0]
    assert found == {"row": "3c", "name": "row 3c", **report}


def test_a_pair_is_shared_until_a_row_goes_wrong() -> None:
    one, other = Builder(), Builder()
    rows = [
        row("1a", one),
        row("1b", other),
        row("1c", one, Mismatch("no")),
        row("1d", one, Skip("why")),
        row("1e", one),
    ]
    begun: list[str] = []
    with Pairs() as pairs:
        outcomes = list(matrix.run(rows, 4, pairs, lambda it: begun.append(it.number)))
    assert [(it.row.number, it.verdict) for it in outcomes] == [
        ("1a", "ok"),
        ("1c", "WRONG"),
        ("1d", "skipped"),
        ("1e", "ok"),
        ("1b", "ok"),
    ]
    assert begun == ["1a", "1c", "1d", "1e", "1b"]
    assert one.diary == ["built", "1a", "1c", "removed", "built", "1d", "1e", "removed"]
    assert other.diary == ["built", "1b", "removed"]


def test_a_pair_that_cannot_be_built_is_tried_again_for_the_next_row() -> None:
    builder = Builder()
    builder.obstacle = LabError("no room")
    with Pairs() as pairs:
        assert matrix.run_row(row("1a", builder), pairs, 4).wrong == "no room"
        builder.obstacle = None
        assert matrix.run_row(row("1b", builder), pairs, 4).ok
    assert builder.diary == ["built", "1b", "removed"]


def test_an_interrupt_ends_the_run_and_removes_the_pair() -> None:
    builder = Builder()
    with pytest.raises(KeyboardInterrupt), Pairs() as pairs:
        matrix.run_row(row("1a", builder, KeyboardInterrupt()), pairs, 4)
    assert builder.diary == ["built", "1a", "removed"]


def test_what_is_left_behind_is_the_row_s_fault() -> None:
    builder = Builder()

    def check(bench: Bench) -> None:
        bench.cpe.log = "Traceback (most recent call last):"  # type: ignore[misc]

    with Pairs() as pairs:
        outcome = matrix.run_row(Row("1a", "noisy", check, builder.build, slow=False), pairs, 4)
    assert "Traceback" in outcome.wrong


def test_numbers_are_in_order() -> None:
    numbers = [it.number for it in matrix.all_rows()]
    assert numbers == sorted(numbers, key=lambda number: (int(number.rstrip("abcdefghijklmnopqrstuvwxyz")), number))
