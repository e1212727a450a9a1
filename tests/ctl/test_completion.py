# SPDX-License-Identifier: GPL-2.0-or-later
"""The completion in bash itself: what is on the line, and what is offered for its last word."""

import subprocess

import pytest

from ctl.completion import COMMAND_LINES, script

# What the package bash-completion has, as far as we use it.
STANDARD = """\
_init_completion() {
    words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    cur=${words[cword]} prev=${words[cword-1]}
}
_filedir() { COMPREPLY+=("a file" ${1-}); }
"""


def offered(line: str) -> list[str]:
    """For its last word, which may be empty."""
    name, *_ = words = line.split(" ")
    array = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; _{name.replace('-', '_')}"
    show = "\nprintf '%s\\n' \"${COMPREPLY[@]}\""
    text = STANDARD + script(name, COMMAND_LINES[name]) + ask + show
    done = subprocess.run(["bash", "-u"], input=text, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hybridctl ch", ["check"]),
        ("hybridctl --v", ["--version"]),
        ("hybridctl flows --c", ["--count"]),
        ("hybridctl flows --role ", ["cpe", "hag"]),
        ("hybridctl flows --role c", ["cpe"]),
        ("hybridctl status --c", [""]),
        ("hybridctl status --run-dir ", ["a file", "-d"]),
        ("hybridctl check ", ["--help", "--json", "a file"]),
        ("hybridctl check --j", ["--json"]),
        ("hybrid-cpe --log-level w", ["warning"]),
        ("hybrid-hag --config ", ["a file"]),
        ("hybrid-hag --c", ["--config", "--clean"]),
    ],
)
def test_offered(line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_every_command_is_offered() -> None:
    assert {"check", "status", "flows"} <= set(offered("hybridctl "))
