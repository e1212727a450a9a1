# SPDX-License-Identifier: GPL-2.0-or-later
"""A scenario: something that is done in a lab, with figures as its outcome and bounds on them.

Each module of `lab.scenarios` holds one, as SCENARIO; its name is how `hybrid-lab run` calls it.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab import scenarios as package

Progress = Callable[[str], None]  # takes a few words on what is going on now
Figures = dict[str, Any]  # JSON values; "rates" is what `Lab.rates` gives, and becomes the picture


@dataclass(frozen=True, slots=True)
class Bound:
    """What one figure must be for the scenario to have passed."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def met(self, figures: Mapping[str, Any]) -> bool:
        value = figures[self.figure]
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        low = f"at least {self.at_least:g}" if self.at_least is not None else ""
        high = f"at most {self.at_most:g}" if self.at_most is not None else ""
        return ", ".join(filter(None, (low, high)))


@dataclass(frozen=True, slots=True)
class Scenario:
    """`run` gets the address family, 4 or 6, and a Progress; it builds its own lab. Raises LabError.

    A scenario that consists of rows gives "rows" among its figures (dicts with the same figures each; or with 'row',
    'name', 'ok', 'ms', and 'why' and 'skipped' where they apply), and `only` makes it one of fewer; LabError for rows
    that it does not have.

    `slow` shows the same on a machine that is ten to twenty times slower: its accesses and bounds leave out what the
    machine itself would be measured by.
    """

    name: str
    summary: str
    run: Callable[[int, Progress], Figures]
    bounds: tuple[Bound, ...] = ()
    only: Callable[[Sequence[str]], "Scenario"] | None = None
    slow: "Scenario | None" = None

    def missed(self, figures: Mapping[str, Any]) -> list[Bound]:
        """The bounds that these figures do not meet."""
        return [bound for bound in self.bounds if not bound.met(figures)]


def all_scenarios() -> dict[str, Scenario]:
    """Every scenario there is, by name."""
    names = [found.name for found in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return {module.SCENARIO.name: module.SCENARIO for module in modules}
