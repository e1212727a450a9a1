# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix of `lab.fidelity`, every row of it, with one line for each."""

from lab.fidelity import matrix
from lab.scenario import Bound, Figures, Progress, Scenario


def run(family: int, progress: Progress) -> Figures:
    rows = matrix.all_rows()
    outcomes = []
    for outcome in matrix.run(rows, family):
        outcomes.append(outcome)
        verdict = (outcome.skipped and "skipped") or (outcome.ok and "ok") or "WRONG"
        progress(f"{len(outcomes)} of {len(rows)}: {outcome.row.number} {outcome.row.name}: {verdict}")
    order = {row.number: place for place, row in enumerate(rows)}
    outcomes.sort(key=lambda outcome: order[outcome.row.number])
    return {
        "rows": [outcome.report() for outcome in outcomes],
        "failed": sum(not outcome.ok for outcome in outcomes),
        "skipped": sum(bool(outcome.skipped) for outcome in outcomes),
    }


SCENARIO = Scenario(
    name="fidelity",
    summary="whether an application can tell the pair from plain forwarding, corner by corner of TCP",
    run=run,
    bounds=(Bound("failed", at_most=0),),
)
