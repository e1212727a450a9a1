# SPDX-License-Identifier: GPL-2.0-or-later
"""Each row of the matrix as a test; `hybrid-lab run fidelity` runs the same code."""

from collections.abc import Iterator

import pytest

from lab.fidelity import matrix
from lab.fidelity.matrix import Pairs, Row

pytestmark = pytest.mark.root

# Neighbours share a pair, so the order is that of the pairs.
ROWS = [
    pytest.param(row, family, id=f"{row.number}-IPv{family}", marks=[pytest.mark.full] if row.slow else [])
    for _, group in matrix.grouped(matrix.all_rows())
    for family in (4, 6)
    for row in group
]


@pytest.fixture(scope="module")
def pairs() -> Iterator[Pairs]:
    with Pairs() as kept:
        yield kept


@pytest.mark.parametrize(("row", "family"), ROWS)
def test_row(pairs: Pairs, row: Row, family: int) -> None:
    outcome = matrix.run_row(row, pairs, family)
    assert outcome.ok, outcome.wrong
    if outcome.skipped:
        pytest.skip(f"{row.number}, IPv{family}: {outcome.skipped}")
