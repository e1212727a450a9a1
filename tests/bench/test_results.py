# SPDX-License-Identifier: GPL-2.0-or-later
"""Medians, spreads and ratios of what was measured."""

import pytest

from bench.results import Results, Spread


def rounds(**peers: list[float]) -> Results:
    """A figure 'x' of measure 'm', round by round."""
    results = Results()
    for peer, values in peers.items():
        for value in values:
            results.add("m", peer, {"x": value})
    return results


@pytest.mark.parametrize(
    ("values", "spread"),
    [([3.0], Spread(3, 3, 3)), ([9.0, 1.0, 2.0], Spread(2, 1, 9)), ([1.0, 2.0], Spread(1.5, 1, 2))],
)
def test_spread(values: list[float], spread: Spread) -> None:
    assert Spread.of(values) == spread


def test_no_values_have_no_spread() -> None:
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])
    assert rounds().spread("m", "a", "x") is None
    assert rounds(a=[1.0]).spread("m", "a", "y") is None


def test_ratios_are_of_the_same_round() -> None:
    """The machine was three times slower in the second round, for both."""
    results = rounds(a=[6.0, 2.0, 8.0], b=[3.0, 1.0, 2.0])
    assert results.ratio("m", "a", "b", "x") == Spread(2, 2, 4)
    assert results.ratio("m", "b", "a", "x") == Spread(0.5, 0.25, 0.5)
    assert results.ratio("m", "a", "nobody", "x") is None


def test_a_round_without_reference_has_no_ratio() -> None:
    assert rounds(a=[6.0, 2.0], b=[0.0, 1.0]).ratio("m", "a", "b", "x") == Spread(2, 2, 2)


def test_differences_are_of_the_same_round() -> None:
    assert rounds(a=[6.0, 2.0, 8.0], b=[3.0, 1.0, 2.0]).difference("m", "a", "b", "x") == Spread(3, 1, 6)


def test_total() -> None:
    assert rounds(a=[1.0, 2.0]).total("m", "a", "x") == 3
    assert rounds().total("m", "a", "x") == 0
