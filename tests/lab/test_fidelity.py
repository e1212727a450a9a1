# SPDX-License-Identifier: GPL-2.0-or-later
"""Each row of the matrix as a test; `hybrid-lab run fidelity` runs the same code."""

import contextlib
from collections.abc import Iterator

import pytest

from lab.bonded import Pair
from lab.fidelity import matrix
from lab.fidelity.matrix import Row, Setup

pytestmark = pytest.mark.root

# Neighbours share a pair, so the order is that of the pairs.
ROWS = [
    pytest.param(row, family, id=f"{row.number}-IPv{family}", marks=[pytest.mark.full] if row.slow else [])
    for family in (4, 6)
    for _, group in matrix.grouped(matrix.all_rows())
    for row in group
]


class Pairs:
    """The pair that the row at hand asks for; one at a time is kept for the next row."""

    def __init__(self) -> None:
        self._exit = contextlib.ExitStack()
        self._is: tuple[Setup, int] | None = None
        self._pair: Pair | None = None

    def get(self, setup: Setup, family: int) -> Pair:
        if self._pair is None or self._is != (setup, family):
            self.close()
            self._pair = self._exit.enter_context(setup())
            self._is = setup, family
        return self._pair

    def close(self) -> None:
        self._pair = None
        self._exit.close()


@pytest.fixture(scope="module")
def pairs() -> Iterator[Pairs]:
    kept = Pairs()
    yield kept
    kept.close()


@pytest.mark.parametrize(("row", "family"), ROWS)
def test_row(pairs: Pairs, row: Row, family: int) -> None:
    outcome = matrix.run_row(row, pairs.get(row.setup, family), family)
    if not outcome.ok:
        pairs.close()  # the next row is not to suffer from it
    assert outcome.ok, outcome.wrong
    if outcome.skipped:
        pytest.skip(outcome.skipped)
