# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios are found, and judged by their bounds."""

import pytest

from lab.scenario import Bound, Scenario, all_scenarios


def test_scenarios_are_found_by_name() -> None:
    found = all_scenarios()
    assert "forwarding" in found
    assert all(name == scenario.name and scenario.summary for name, scenario in found.items())


def test_slow_ones_leave_out_nothing_but_speed() -> None:
    slow = {name: scenario.slow for name, scenario in all_scenarios().items() if scenario.slow}
    assert slow.keys() == {"bonding", "fail-open", "handshake"}
    for name, scenario in slow.items():
        left_out = {it.figure for it in all_scenarios()[name].bounds} - {it.figure for it in scenario.bounds}
        assert left_out <= {"added_ms_p50"}


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
