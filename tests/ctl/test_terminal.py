# SPDX-License-Identifier: GPL-2.0-or-later
"""Text for terminals: nothing that moves a cursor, and bold only where it is wanted."""

import io

import pytest

from ctl.terminal import bold, cleaned, emphasis, plain, printable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pppoe-wan", "pppoe-wan"),
        ("Zürich", "Zürich"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u202eabc", "\\u202eabc"),  # shows what follows from right to left
        ("\udcff", "\\udcff"),  # a byte of a file name that is no UTF-8
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_cleaned_at_every_depth() -> None:
    value = {"a\n": ["b\t", {"c\x1b": 1.5}], "d": None, "e": True}
    assert cleaned(value) == {"a\\n": ["b\\t", {"c\\x1b": 1.5}], "d": None, "e": True}


def test_bold() -> None:
    assert bold("lan:") == "\x1b[1mlan:\x1b[0m"


@pytest.mark.parametrize(
    ("stream", "environment", "wanted"),
    [
        (Terminal(), {}, bold),
        (Terminal(), {"NO_COLOR": ""}, bold),  # no-color.org: when not an empty string
        (Terminal(), {"NO_COLOR": "0"}, plain),
        (Terminal(), {"TERM": "dumb"}, plain),
        (Terminal(), {"TERM": "xterm"}, bold),
        (io.StringIO(), {"TERM": "xterm"}, plain),
    ],
)
def test_emphasis(stream: io.StringIO, environment: dict[str, str], wanted: object) -> None:
    assert emphasis(stream, environment) is wanted
