# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix of `lab.fidelity`, every row of it or those asked for, with one line for each."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from lab.errors import LabError
from lab.fidelity import matrix
from lab.fidelity.matrix import Row
from lab.scenario import Bound, Figures, Progress, Scenario


def run(family: int, progress: Progress, rows: Sequence[Row] = ()) -> Figures:
    rows = rows or matrix.all_rows()
    outcomes: list[matrix.Outcome] = []

    def begins(row: Row) -> None:
        progress(f"{len(outcomes) + 1} of {len(rows)}, IPv{family}: {row.number} {row.name}")

    with matrix.Pairs() as pairs:
        for outcome in matrix.run(rows, family, pairs, begins):
            outcomes.append(outcome)
            if outcome.why:
                progress(f"{outcome.row.number} {outcome.verdict}: {outcome.why}")
    order = {row.number: place for place, row in enumerate(rows)}
    outcomes.sort(key=lambda outcome: order[outcome.row.number])
    return {
        "rows": [outcome.report() for outcome in outcomes],
        "failed": sum(not outcome.ok for outcome in outcomes),
        "skipped": sum(bool(outcome.skipped) for outcome in outcomes),
    }


def only(numbers: Sequence[str]) -> Scenario:
    """The scenario with these rows of the matrix, in its order. LabError for a row that there is not."""
    rows = {row.number: row for row in matrix.all_rows()}
    if unknown := [number for number in numbers if number not in rows]:
        raise LabError(f"there is no row {' nor '.join(unknown)}; there are {' '.join(rows)}")
    return replace(SCENARIO, run=partial(run, rows=[row for number, row in rows.items() if number in numbers]))


SCENARIO = Scenario(
    name="fidelity",
    summary="whether an application can tell the pair from plain forwarding, corner by corner of TCP",
    run=run,
    bounds=(Bound("failed", at_most=0),),
    only=only,
)
