# SPDX-License-Identifier: GPL-2.0-or-later
"""hybridctl: checks a configuration, and shows what the running daemons do.

With --json standard output holds exactly one document, or nothing where no daemon answers. Of one daemon it is what
the daemon says, unchanged. Where the sockets of both are there, and --role picks none, it is {"cpe": ..., "hag": ...},
null for one that does not answer.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common.daemon import CONFIG, RUN_DIR
from common.log import LEVELS
from common.policy import Steering
from common.version import VERSION
from ctl import commands
from ctl.commands import ROLES, Exit, complain

_STATUSES: Final = """\
exit status:
  0  done; of check: the configuration is right
  1  the configuration is wrong
  2  wrong command line
  3  a daemon cannot be reached, or does not answer as it should
  4  the output cannot be written
  5  of doctor: something is missing that the daemons need
"""

_ASKING: Final = """\
Without --role, all daemons are asked whose control sockets are there.

With --json one document is printed as the daemon gives it: {one}.
If both sockets are there and --role picks none, it is {{"cpe": ..., "hag": ...}},
null for a daemon that does not answer; so a script had better give --role.
Nothing is printed if none answers.
"""

_EXAMINING: Final = """\
Nothing is changed: rules are tried in a network namespace of their own, which
needs root. --json prints {"ok": ..., "findings": [{"what": ..., "found": ...,
"text": ..., "needed": ...}]}, with null where found is unknown.
"""

_LINKS: Final = """\
It takes half a second, over which the rates are measured. --json prints a list,
[{"name": ..., "up": ..., "reason": ..., "rtt_ms": ..., "down_rate": ..., ...}],
with rates in bit/s and null for what is unknown; nothing if no daemon answers.
"""

_POLICY: Final = """\
--json prints {"steering": ..., "configured": ..., "modes": [{"mode": ...,
"links": [{"name": ..., "use": "carry", "backup" or "none", "reason": ...}]}],
"links": [{"name": ..., "down_rate": ..., "down_capacity": ..., ...}],
"policies": [{"name": ..., "steering": ..., "dport": [...], ...}]}, with rates in
bit/s and null for what is unknown; nothing if no daemon answers.
"""

_STEERING: Final = """\
Without 'set' it is shown. A mode that is set holds at once, for connections that
run too, until the daemon ends or its configuration is given another mode; the
file stays as it is. --json prints {"steering": ..., "configured": ...}.
"""

_RELOADING: Final = """\
Only what differs is changed, and open connections go on. If something in the
file is wrong, or cannot change while the daemon runs, nothing is changed at all.
A daemon that waits for something tries again at once; "waiting" says for what.

"""

_FOLLOWING: Final = """\
An event is {"time": SECONDS, "role": ..., "level": ..., "what": TEXT} with what
it is about, such as "link" and "reason". The last five hundred are kept. With
--follow and --json each is a line of its own.

"""

_CHECKING: Final = """\
Errors go to standard error, one a line. --json prints one document instead:
{"ok": false, "errors": [{"file": ..., "line": ..., "section": ..., "option":
..., "reason": ...}]}, with null for what an error is not about.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. A reader that has seen enough (| head) and ^C end it quietly."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OSError as error:  # of files and sockets all are dealt with by the commands
        _discard_output()
        if isinstance(error, BrokenPipeError):
            return Exit.BROKEN_PIPE
        complain(f"hybridctl: cannot write the output: {error.strerror}")
        return Exit.OUTPUT


def _run(arguments: Sequence[str] | None) -> int:
    parser = command_line()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return Exit.USAGE
    return COMMANDS[options.command].run(options)


def _discard_output() -> None:
    """What is left in the buffer goes nowhere, or Python would try, and complain, once more at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


# The command line


@dataclass(frozen=True, slots=True)
class Argument:
    """What argparse's add_argument is told."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """``details`` is for people who ask for its help."""

    run: Callable[[argparse.Namespace], int]
    summary: str
    arguments: tuple[Argument, ...]
    details: str


_FILE: Final = Argument(
    "file", {"nargs": "?", "type": Path, "default": CONFIG, "metavar": "FILE", "help": "default: %(default)s"}
)
_JSON: Final = Argument("--json", {"action": "store_true", "help": "for programs: print one JSON document"})
_LOCAL: Final = Argument("--local", {"action": "store_true", "required": True, "help": "examine this box"})
_OF_FILE: Final = Argument(
    "--config",
    {"dest": "file", "type": Path, "default": CONFIG, "metavar": "FILE", "help": "UCI file (default: %(default)s)"},
)
_SET: Final = Argument("action", {"nargs": "?", "choices": ("set",), "metavar": "set", "help": "change it"})
_MODES: Final = tuple(mode.value for mode in Steering)
_MODE: Final = Argument(
    "mode", {"nargs": "?", "choices": _MODES, "metavar": "MODE", "help": f"one of: {', '.join(_MODES)}"}
)
_LEVEL: Final = Argument("level", {"choices": LEVELS, "metavar": "LEVEL", "help": f"one of: {', '.join(LEVELS)}"})
_COUNT: Final = Argument("--count", {"action": "store_true", "help": "print only how many there are"})
_FOLLOW: Final = Argument("--follow", {"action": "store_true", "help": "go on with what happens now, until ^C"})
_ROLE: Final = Argument("--role", {"choices": ROLES, "help": "ask only this daemon (default: all that are there)"})
_RUN_DIR: Final = Argument(
    "--run-dir",
    {
        "type": Path,
        "default": RUN_DIR,
        "metavar": "DIR",
        "help": "where the daemons have their control sockets (default: %(default)s)",
    },
)

COMMANDS: Final[Mapping[str, Command]] = {
    "check": Command(
        commands.check, "say whether a configuration file is right, and what is not", (_FILE, _JSON), _CHECKING
    ),
    "status": Command(
        commands.status,
        "show the running daemons and what became of connections so far",
        (_JSON, _ROLE, _RUN_DIR),
        _ASKING.format(one="an object"),
    ),
    "links": Command(
        commands.links,
        "show a home router's links: up or not, round trips, rates",
        (_JSON, _RUN_DIR),
        _LINKS,
    ),
    "policy": Command(
        commands.policy,
        "show which of a home router's links carry what, and why",
        (_JSON, _RUN_DIR),
        _POLICY,
    ),
    "steering": Command(
        commands.steering,
        "show or change a home router's mode of steering",
        (_SET, _MODE, _JSON, _RUN_DIR),
        _STEERING,
    ),
    "flows": Command(
        commands.flows,
        "show the connections that are relayed now, the oldest first",
        (_JSON, _COUNT, _ROLE, _RUN_DIR),
        _ASKING.format(one="a list, with --count a number"),
    ),
    "events": Command(
        commands.events,
        "show what has happened lately, and why",
        (_FOLLOW, _JSON, _ROLE, _RUN_DIR),
        _FOLLOWING + _ASKING.format(one="a list, the oldest first"),
    ),
    "reload": Command(
        commands.reload,
        "have the running daemons read their configuration again",
        (_JSON, _ROLE, _RUN_DIR),
        _RELOADING + _ASKING.format(one='{"changed": [...], "errors": [...]}'),
    ),
    "doctor": Command(
        commands.doctor,
        "list what this box offers, and what is done without the rest",
        (_LOCAL, _JSON, _OF_FILE),
        _EXAMINING,
    ),
    "log": Command(
        commands.log,
        "change what the running daemons log, until they end",
        (_LEVEL, _JSON, _ROLE, _RUN_DIR),
        _ASKING.format(one='{"level": ...}'),
    ),
}


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybridctl",
        description="Checks a configuration, and shows what hybrid-cpe and hybrid-hag do on this box.",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary.capitalize()}.",
            epilog=f"{command.details}\n{_STATUSES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for argument in command.arguments:
            subparser.add_argument(argument.name, **argument.settings)
    return parser
