# SPDX-License-Identifier: GPL-2.0-or-later
"""What bash offers after the name of a command of ours: `python -m ctl.completion hybridctl` prints the script.

Made of the command lines themselves when the package is built, so that nothing runs when somebody presses Tab. The
functions it uses are those of the package bash-completion.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from common import daemon
from ctl import hybridctl


def script(name: str, parser: argparse.ArgumentParser) -> str:
    """The completion of a command with this command line: once there is a subcommand, its words."""
    function = "_" + name.replace("-", "_")
    commands = _subcommands(parser)
    values = {line: None for one in (parser, *commands.values()) for line in _values(one)}
    return "\n".join(
        [
            f"{function}()",
            "{",
            "\tlocal cur prev words cword word",
            "\t_init_completion || return",
            "\tcase $prev in",
            *(f"\t{line}" for line in values),
            "\tesac",
            f'\tlocal offered="{_words(parser)}" files=',
            *_offered_after(commands),
            '\tCOMPREPLY=($(compgen -W "$offered" -- "$cur"))',
            "\t[[ ! $files || $cur == -* ]] || _filedir",
            "} &&",
            f"\tcomplete -F {function} {name}",
            "",
        ]
    )


def _offered_after(commands: Mapping[str, argparse.ArgumentParser]) -> list[str]:
    if not commands:
        return []
    lines = ['\tfor word in "${words[@]:1:cword-1}"; do', "\t\tcase $word in"]
    for name, parser in commands.items():
        files = " files=1" if any(_is_file(action) for action in parser._actions if not action.option_strings) else ""
        lines.append(f'\t\t{name}) offered="{_words(parser)}"{files}; break ;;')
    return [*lines, "\t\tesac", "\tdone"]


def _subcommands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def _words(parser: argparse.ArgumentParser) -> str:
    """The options, in their long form, which says what they do, and what else the command line has words for."""
    words: list[str] = []
    for action in parser._actions:
        words += [action.option_strings[-1]] if action.option_strings else map(str, action.choices or ())
    return " ".join(words)


def _values(parser: argparse.ArgumentParser) -> Iterator[str]:
    """What may follow an option, a line of a case each."""
    for action in parser._actions:
        if not action.option_strings or action.nargs == 0:
            continue
        if action.choices:
            does = f'COMPREPLY=($(compgen -W "{" ".join(map(str, action.choices))}" -- "$cur"))'
        elif _is_file(action):
            does = "_filedir -d" if action.metavar == "DIR" else "_filedir"
        else:
            does = "COMPREPLY=()"
        yield f"{'|'.join(action.option_strings)}) {does}; return ;;"


def _is_file(action: argparse.Action) -> bool:
    return action.metavar in ("FILE", "DIR")


COMMAND_LINES: Final[Mapping[str, argparse.ArgumentParser]] = {
    "hybrid-cpe": daemon.command_line("cpe", ""),
    "hybrid-hag": daemon.command_line("hag", ""),
    "hybridctl": hybridctl.command_line(),
}


def main(arguments: Sequence[str]) -> None:
    (name,) = arguments
    print(script(name, COMMAND_LINES[name]), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
