# SPDX-License-Identifier: GPL-2.0-or-later
"""The pair beside its peers in less than a minute: ratios of one run. `make bench` takes longer and knows more."""

from lab.scenario import Bound, Figures, Progress, Scenario


def run(family: int, progress: Progress) -> Figures:
    from bench import course, report  # which import the lab

    return report.figures(course.run(course.BRIEF, family, progress))


SCENARIO = Scenario(
    name="bench",
    summary="the pair beside HAProxy (not installed by make setup) and beside Multipath TCP end to end",
    run=run,
    bounds=(Bound("failed_connections", at_most=0),),
)
