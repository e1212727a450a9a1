# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages: without a mistake in their markup, and complete."""

import argparse
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import SECTIONS
from common.options import Entry
from ctl.completion import COMMAND_LINES

CHECKOUT = Path(__file__).parents[2]
PAGES = sorted((CHECKOUT / "man").iterdir())
OF = {"hybrid-cpe": "hybrid-cpe.8", "hybrid-hag": "hybrid-hag.8", "hybridctl": "hybridctl.1"}


def read(page: str) -> str:
    return (CHECKOUT / "man" / page).read_text()


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"the program '{program}' is not installed")


def test_there_is_one_for_each_command_and_for_the_configuration() -> None:
    assert {page.name for page in PAGES} == {*OF.values(), "hybridaccess.5"}


@needs("mandoc")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mandoc_finds_nothing(page: Path) -> None:
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", page], capture_output=True, text=True, check=False)
    # A page that is not installed, or that is another package's, is nothing to find.
    found = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
    assert not found


@needs("man")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_man_shows_it_without_a_warning(page: Path) -> None:
    environment = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANROFFSEQ": ""}
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert not done.stderr
    assert done.stdout


def documented(section: str) -> dict[str, tuple[str, str]]:
    """Name -> (kind, default) as hybridaccess(5) has it under the heading of a section."""
    _, _, rest = read("hybridaccess.5").partition(f"\n.Ss config {section}\n")
    text = re.split(r"^\.S[hs] ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    items = re.findall(r"^\.It Ic (option|list) (\w+) (?:Ar|Cm) .+ Pq (.+)$", text, flags=re.MULTILINE)
    return {name: (kind, default) for kind, name, default in items}


def described(entry: Entry) -> tuple[str, str]:
    if entry.required:
        return entry.keyword, "required"
    if entry.default is not None:
        return entry.keyword, f"default: {entry.default}"
    return entry.keyword, "none" if entry.many else "unset"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_option_of_the_configuration_is_there(section: str) -> None:
    assert documented(section) == {name: described(entry) for name, entry in SECTIONS[section].items()}


def words(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every option and subcommand, as the pages write them."""
    for action in parser._actions:
        if action.option_strings:
            yield f"Fl {action.option_strings[-1][1:]}"
        elif isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield f"Cm {name}"
                yield from words(sub)


@pytest.mark.parametrize("command", OF)
def test_every_word_of_the_command_line_is_explained(command: str) -> None:
    """In a list of its own, that is; the synopsis alone explains nothing."""
    items = "\n".join(line for line in read(OF[command]).splitlines() if line.startswith(".It "))
    assert [word for word in words(COMMAND_LINES[command]) if not re.search(rf"\b{word}\b", items)] == []
