# SPDX-License-Identifier: GPL-2.0-or-later
"""Text for a terminal: nothing in it that could move the cursor, bold where that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TextIO

Bold = Callable[[str], str]
"""Makes text bold, or leaves it as it is."""


def printable(text: str) -> str:
    """The text on one line, with whatever is no ordinary character written as an escape such as \\x1b."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def cleaned(value: Any) -> Any:
    """A JSON value with each of its strings, keys included, made printable."""
    match value:
        case str():
            return printable(value)
        case list():
            return [cleaned(one) for one in value]
        case dict():
            return {cleaned(key): cleaned(one) for key, one in value.items()}
    return value


def bold(text: str) -> str:
    """The text in bold (ECMA-48, SGR 1)."""
    return f"\x1b[1m{text}\x1b[0m"


def plain(text: str) -> str:
    """The text itself."""
    return text


def emphasis(stream: TextIO, environment: Mapping[str, str]) -> Bold:
    """`bold` if the stream is a terminal that can show it and NO_COLOR (no-color.org) is not set, else `plain`."""
    able = stream.isatty() and environment.get("TERM") != "dumb"
    return bold if able and not environment.get("NO_COLOR") else plain
