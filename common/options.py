# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of a section: a table says which there are, one function reads them, a report has what is wrong."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from common.uci import ConfigError, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An option of a section.

    `default` is written as in a file; None without `required` leaves the option unset. `many` makes it a
    list, whose value is a tuple; one that is not required defaults to the empty tuple. `live` says that a running
    daemon can change it.
    """

    parse: Callable[[str], Any]
    default: str | None = None
    required: bool = False
    many: bool = False
    live: bool = False

    @property
    def keyword(self) -> str:
        return "list" if self.many else "option"


class Report:
    """Collects what is wrong with a file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.errors: list[ConfigError] = []

    def add(self, section: Section, reason: str, *, option: str | None = None, line: int | None = None) -> None:
        """Without `line` the error is at the first line of the option, or of the section if that has none."""
        if line is None:
            given = (one.line for one in (*section.options, *section.lists) if one.name == option)
            line = next(given, section.line)
        self.errors.append(ConfigError(self.file, line, reason, section.title, option))


def read_options(section: Section, table: Mapping[str, Entry], report: Report) -> dict[str, Any] | None:
    """The value of every option in the table; None if the report has got an error about this section."""
    before = len(report.errors)
    _check_known(section, table, report)
    values = {name: _read_option(section, name, entry, report) for name, entry in table.items()}
    return values if len(report.errors) == before else None


def _check_known(section: Section, table: Mapping[str, Entry], report: Report) -> None:
    for keyword, options in (("option", section.options), ("list", section.lists)):
        for option in options:
            entry = table.get(option.name)
            if entry is None:
                reason = "unknown option" + did_you_mean(option.name, table)
            elif entry.keyword != keyword:
                reason = f"write it as: {entry.keyword} {option.name} '{option.value}'"
            else:
                continue
            report.add(section, reason, option=option.name, line=option.line)


def _read_option(section: Section, name: str, entry: Entry, report: Report) -> Any:
    """One option's value; what it returns after reporting an error does not matter."""
    if all(option.name != name for option in (*section.options, *section.lists)):
        if entry.required:
            report.add(section, f"{entry.keyword} '{name}' is missing")
        elif entry.default is not None:
            return entry.parse(entry.default)
        return () if entry.many else None
    values: dict[Any, None] = {}
    for option in section.lists if entry.many else section.options:
        if option.name != name:
            continue
        try:
            value = entry.parse(option.value)
            if value in values:
                raise ValueError(f"'{option.value}' is listed twice")
            values[value] = None
        except ValueError as error:
            report.add(section, str(error), option=name, line=option.line)
    return tuple(values) if entry.many else next(iter(values), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to put after a complaint about a name that is none; empty if nothing is like it."""
    import difflib  # nobody needs it but for a mistake

    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
