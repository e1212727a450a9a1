# SPDX-License-Identifier: GPL-2.0-or-later
"""What was measured, round by round, and what follows: medians, spreads, ratios. Pure."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

Sample = dict[str, float]  # figure -> value, of one measurement


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the lowest and the highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """ValueError if there are none."""
        values = list(values)
        if not values:
            raise ValueError("a spread of no values")
        return cls(statistics.median(values), min(values), max(values))


@dataclass(slots=True)
class Results:
    """measure -> peer -> one sample for each round, the first round first."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)  # measure and peer -> how often it came to nothing first

    def add(self, measure: str, peer: str, sample: Sample) -> None:
        self.samples.setdefault(measure, {}).setdefault(peer, []).append(sample)

    def peers(self, measure: str) -> Sequence[str]:
        return list(self.samples.get(measure, {}))

    def values(self, measure: str, peer: str, figure: str) -> list[float]:
        """Empty if that was not measured."""
        return [sample[figure] for sample in self.samples.get(measure, {}).get(peer, []) if figure in sample]

    def spread(self, measure: str, peer: str, figure: str) -> Spread | None:
        values = self.values(measure, peer, figure)
        return Spread.of(values) if values else None

    def ratio(self, measure: str, peer: str, other: str, figure: str) -> Spread | None:
        """The one's figure by the other's, round by round: what slowed the machine for a while slowed both."""
        pairs = zip(self.values(measure, peer, figure), self.values(measure, other, figure), strict=False)
        ratios = [value / reference for value, reference in pairs if reference]
        return Spread.of(ratios) if ratios else None

    def difference(self, measure: str, peer: str, other: str, figure: str) -> Spread | None:
        """The one's figure less the other's, round by round."""
        pairs = zip(self.values(measure, peer, figure), self.values(measure, other, figure), strict=False)
        differences = [value - reference for value, reference in pairs]
        return Spread.of(differences) if differences else None

    def total(self, measure: str, peer: str, figure: str) -> float:
        return sum(self.values(measure, peer, figure))
