# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios are found, and judged by their bounds."""

import pytest

from lab.scenario import Bound, Scenario, all_scenarios


def test_scenarios_are_found_by_name() -> None:
    found = all_scenarios()
    assert "forwarding" in found
    assert all(name == scenario.name and scenario.summary for name, scenario in found.items())


@pytest.mark.parametrize(
    ("bound", "text", "met", "missed"),
    [
        (Bound("x", at_least=2), "at least 2", [2, 3], [1.9]),
        (Bound("x", at_most=2), "at most 2", [2, 1], [2.1]),
        (Bound("x", at_least=1, at_most=2), "at least 1, at most 2", [1, 2], [0, 3]),
        (Bound("x", at_least=1), "at least 1", [True], [False]),
    ],
)
def test_bound(bound: Bound, text: str, met: list[float], missed: list[float]) -> None:
    scenario = Scenario("s", "a scenario", lambda _family, _progress: {}, (bound,))
    assert str(bound) == text
    for value in met:
        assert scenario.missed({"x": value}) == []
    for value in missed:
        assert scenario.missed({"x": value}) == [bound]
