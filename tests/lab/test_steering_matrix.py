# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix of pairs of accesses: its rows by name, and what a row says. What it measures is for a quiet machine."""

from types import SimpleNamespace
from typing import Any

import pytest

from lab.errors import LabError
from lab.scenarios import steering_matrix
from lab.scenarios.steering_matrix import CELLS, PAIRS, as_row, only


@pytest.mark.parametrize(
    ("names", "cells"),
    [
        (["20+30"], [("20+30", "down"), ("20+30", "up")]),
        (["bloat-up", "20+30-down"], [("20+30", "down"), ("bloat", "up")]),
        (["loss", "loss-up"], [("loss", "down"), ("loss", "up")]),
    ],
)
def test_rows_by_name(names: list[str], cells: list[tuple[str, str]]) -> None:
    chosen = only(names).run.keywords["cells"]  # type: ignore[attr-defined]
    assert [(pair.name, way) for pair, way in chosen] == cells


def test_rows_that_there_are_not() -> None:
    with pytest.raises(LabError, match="there is no row 20\\+31 nor dropped; there are 20\\+30 50\\+100 "):
        only(["20+30", "20+31", "dropped"])


def test_every_pair_has_both_directions() -> None:
    assert [(pair.name, way) for pair, way in CELLS] == [(pair.name, way) for pair in PAIRS for way in ("down", "up")]


def test_a_row_compares_with_the_better_access_and_with_both() -> None:
    row = as_row(PAIRS[0], "down", 6, 45e6, {"xdsl": 18e6, "lte": 27e6})
    assert row == {
        "pair": "20+30",
        "direction": "down",
        "family": 6,
        "goodput_mbps": 45.0,
        "xdsl_mbps": 18.0,
        "lte_mbps": 27.0,
        "best_single_mbps": 27.0,
        "sum_mbps": 45.0,
        "vs_best": 1.667,
        "vs_sum": 1.0,
    }


@pytest.mark.parametrize(("megabytes", "megabits"), [(0.5, 40.0), (0.05, 8.0)])
def test_what_had_waited_does_not_count(monkeypatch: pytest.MonkeyPatch, megabytes: float, megabits: float) -> None:
    """40 Mbit/s arrive, and so much has passed the accesses in 50 ms."""
    seen = iter([7e6, 7e6 + 1e6 * megabytes])
    monkeypatch.setattr(steering_matrix, "passed", lambda *_: next(seen))
    flow: Any = SimpleNamespace(rate=lambda _start, _end: 40e6)
    nowhere: Any = None
    rate = steering_matrix.steady(nowhere, flow, 4, "down", settles=0.0, seconds=0.05)
    assert 0.5 * megabits < rate / 1e6 <= megabits  # less if the machine is late


def test_bounds_are_those_of_the_worst_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(pair: steering_matrix.Pair, ways: list[str], _family: int, _progress: object) -> list[object]:
        bad = pair.name == "loss"
        return [{"pair": pair.name, "vs_best": 0.5 if bad else 1.2, "vs_sum": 0.3 if bad else 0.95} for _ in ways]

    monkeypatch.setattr(steering_matrix, "measure", measured)
    figures = steering_matrix.run(4, print)
    assert len(figures["rows"]) == len(CELLS)
    assert figures["worst_vs_best"] == 0.5
    assert figures["worst_vs_sum"] == 0.95  # of the sane pairs
    missed = [str(bound.figure) for bound in steering_matrix.SCENARIO.missed(figures)]
    assert missed == ["worst_vs_best"]
