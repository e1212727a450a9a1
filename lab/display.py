# SPDX-License-Identifier: GPL-2.0-or-later
"""What hybrid-lab shows to people: words on what is going on, then a table of figures and a picture."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.picture import picture
from lab.scenario import Figures, Progress, Scenario


def show(scenario: Scenario, family: int, figures: Figures) -> None:
    """What is printed for people."""
    console = Console()
    console.print(f"{scenario.name}, IPv{family}: {scenario.summary}", highlight=False)
    tables = {
        name: value
        for name, value in figures.items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    }
    for rows in tables.values():
        console.print(table_of_rows(rows) if "row" in rows[0] else table_of_figures(rows))
    bounds = {bound.figure: bound for bound in scenario.bounds}
    table = Table()
    for heading in ("figure", "value", "bound", ""):
        table.add_column(heading)
    for name, value in figures.items():
        if name == "rates" or name in tables:
            continue
        bound = bounds.get(name)
        verdict = "" if bound is None else "met" if bound.met(figures) else "MISSED"
        table.add_row(name, str(value), str(bound or ""), verdict)
    console.print(table)
    if rates := figures.get("rates"):
        width = shutil.get_terminal_size().columns
        print(picture(rates["mbit"], rates["interval"], rates["marks"], width=width, title=rates["direction"]))


def table_of_rows(rows: list[dict[str, Any]]) -> Table:
    table = Table()
    table.add_column("row")
    table.add_column("what is the same as without the pair")
    table.add_column("ms", justify="right")
    table.add_column("", overflow="fold")
    for row in rows:
        verdict = "skipped" if row.get("skipped") else "ok" if row["ok"] else "WRONG"
        words = f"{verdict}: {row['why']}" if "why" in row else verdict
        table.add_row(row["row"], row["name"], f"{row['ms']:.0f}", Text(words))
    return table


def table_of_figures(rows: list[dict[str, Any]]) -> Table:
    """Rows of figures that all have the same names."""
    table = Table(box=box.SIMPLE, padding=0)  # which leaves ten columns room on eighty characters
    for name, value in rows[0].items():
        words = name.split("_")
        widest = max(map(len, [*words, *(str(row[name]) for row in rows)]))
        justify: Literal["left", "right"] = "left" if isinstance(value, str) else "right"
        table.add_column("\n".join(words), justify=justify, min_width=widest)
    for row in rows:
        table.add_row(*map(str, row.values()))
    return table


@contextlib.contextmanager
def showing_progress() -> Iterator[Progress]:
    """Words on standard error, on one changing line if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda words: print(words, file=sys.stderr, flush=True)
        return
    with console.status("") as status:
        yield status.update
