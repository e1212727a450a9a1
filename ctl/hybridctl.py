# SPDX-License-Identifier: GPL-2.0-or-later
"""hybridctl: checks a configuration, and shows what the running daemons do.

With --json standard output holds exactly one document, or nothing where no daemon answers. Of one daemon it is what
the daemon says, unchanged. Where the sockets of both are there, and --role picks none, it is {"cpe": ..., "hag": ...},
null for one that does not answer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

from common.config import Config, ConfigError, ConfigErrors, load
from common.daemon import CONFIG, RUN_DIR
from common.log import LEVELS
from common.policy import Steering
from common.version import VERSION
from ctl import display, inquiry
from ctl.following import follow
from ctl.inquiry import Absent, Unreachable
from ctl.terminal import Bold, cleaned, emphasis, printable

ROLES: Final = ("cpe", "hag")


class Exit(IntEnum):
    """Exit status."""

    OK = 0
    CONFIG = 1
    USAGE = 2  # argparse's own
    UNREACHABLE = 3
    OUTPUT = 4
    INTERRUPTED = 128 + signal.SIGINT
    LACKING = 5
    BROKEN_PIPE = 128 + signal.SIGPIPE


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

Answers = dict[str, Any]
Render = Callable[[str, Any, Bold], str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. A reader that has seen enough (| head) and ^C end it quietly."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OSError as error:  # of files and sockets all are dealt with below
        _discard_output()
        if isinstance(error, BrokenPipeError):
            return Exit.BROKEN_PIPE
        _complain(f"hybridctl: cannot write the output: {error.strerror}")
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


def _complain(text: str) -> None:
    print(printable(text), file=sys.stderr)


# check


def _check(options: argparse.Namespace) -> int:
    errors: Sequence[ConfigError] = ()
    try:
        config = _load(options.file)
    except ConfigErrors as found:
        errors = found.errors
    if options.json:
        print(json.dumps({"ok": not errors, "errors": [_as_json(error) for error in errors]}))
    elif not errors:
        print(printable(f"{options.file}: ok: {display.configuration(config)}"))
    else:
        for error in errors:
            _complain(str(error))
    return Exit.CONFIG if errors else Exit.OK


def _load(file: Path) -> Config:
    """As both daemons do, who each want the section of their role."""
    config = load(file)
    if config.cpe is None and config.hag is None:
        raise ConfigErrors([ConfigError(str(file), 0, "there is neither a 'config cpe' nor a 'config hag' section")])
    return config


def _as_json(error: ConfigError) -> dict[str, Any]:
    return {
        "file": error.file,
        "line": error.line or None,
        "section": error.section,
        "option": error.option,
        "reason": error.reason,
    }


# status, links, flows, events, log and reload


def _status(options: argparse.Namespace) -> int:
    answers = _ask(options, partial(inquiry.ask, command="status"))
    return _show(options, answers, lambda _role, answer, bold: display.status(answer, bold))


def _links(options: argparse.Namespace) -> int:
    options.role = "cpe"  # gateways have none
    answers = _ask(options, partial(inquiry.ask, command="links"))
    return _show(options, answers, lambda _role, answer, bold: display.links(answer, bold))


def _policy(options: argparse.Namespace) -> int:
    options.role = "cpe"
    answers = _ask(options, partial(inquiry.ask, command="policy"))
    return _show(options, answers, lambda _role, answer, bold: display.policy(answer, bold))


def _steering(options: argparse.Namespace) -> int:
    options.role = "cpe"
    if (options.action is None) is not (options.mode is None):
        _complain("hybridctl: to change the steering, say: hybridctl steering set MODE")
        return Exit.USAGE
    wanted = {"set": options.mode} if options.mode else {}
    answers = _ask(options, partial(inquiry.ask, command="steering", **wanted))
    return _show(options, answers, lambda _role, answer, _bold: f"steering: {display.steering(answer)}")


def _flows(options: argparse.Namespace) -> int:
    if options.count:
        answers = _ask(options, _count)
        several = len(answers) > 1
        return _show(options, answers, lambda role, count, _bold: f"{role}: {count}" if several else f"{count}", "\n")
    answers = _ask(options, partial(inquiry.ask, command="flows"))
    return _show(options, answers, display.titled_flows if len(answers) > 1 else display.flows)


def _log(options: argparse.Namespace) -> int:
    answers = _ask(options, partial(inquiry.ask, command="log", level=options.level))
    return _show(options, answers, lambda role, answer, _bold: f"hybrid-{role} logs: {answer['level']}", "\n")


def _reload(options: argparse.Namespace) -> int:
    answers = _ask(options, partial(inquiry.ask, command="reload"))
    status = _show(options, answers, display.reloaded, "\n")
    errors = [error for answer in answers.values() if answer is not None for error in answer.get("errors", ())]
    for error in errors:
        _complain(f"hybridctl: {error}")
    return Exit.CONFIG if errors and status == Exit.OK else status


def _events(options: argparse.Namespace) -> int:
    if options.follow:
        return _follow(options)
    answers = _ask(options, partial(inquiry.ask, command="events"))
    return _show(options, answers, lambda _role, answer, bold: display.events(answer, bold), "\n")


def _follow(options: argparse.Namespace) -> int:
    roles = [options.role] if options.role else [role for role in ROLES if (options.run_dir / f"{role}.sock").exists()]
    if not roles:
        return _nobody(options.run_dir)
    bold = emphasis(sys.stdout, os.environ)
    role = roles[0]
    try:
        for role, events in follow(roles, options.run_dir, "events"):  # noqa: B007  # whose they are, if they are odd
            for event in events:
                print(json.dumps(event) if options.json else display.event(cleaned(event), bold))
            sys.stdout.flush()
    except Unreachable as reason:
        _complain(f"hybridctl: {reason}")
    except (KeyError, TypeError, ValueError, AttributeError):
        _complain(f"hybridctl: {inquiry.not_understood(role)}")
    return Exit.UNREACHABLE


def _count(role: str, run_dir: Path) -> int:
    """Connections now. The table of all of them need not be sent for that."""
    match inquiry.ask(role, run_dir, "status"):
        case {"flows": int(count)}:
            return count
    raise inquiry.not_understood(role)


def _ask(options: argparse.Namespace, question: Callable[[str, Path], Any]) -> Answers:
    """The answers by role, None from a daemon that is there and gives none; why not, people are told at once."""
    answers: Answers = {}
    for role in [options.role] if options.role else ROLES:
        try:
            answers[role] = question(role, options.run_dir)
        except Unreachable as reason:
            if options.role or not isinstance(reason, Absent) or reason.last_words:
                _complain(f"hybridctl: {reason}")
                answers[role] = None
    if not answers:
        _nobody(options.run_dir)
    return answers


def _nobody(run_dir: Path) -> int:
    absent = f"no cpe.sock or hag.sock in {run_dir}"
    _complain(f"hybridctl: neither hybrid-cpe nor hybrid-hag is running ({absent})")
    return Exit.UNREACHABLE


def _show(options: argparse.Namespace, answers: Answers, render: Render, between: str = "\n\n") -> int:
    """Prints the answers that there are; all is well if there are any and none is missing."""
    given = {role: answer for role, answer in answers.items() if answer is not None}
    complete = bool(given) and len(given) == len(answers)
    if options.json and given:
        print(json.dumps(answers if len(answers) > 1 else given.popitem()[1]))
    elif given:
        bold = emphasis(sys.stdout, os.environ)
        texts = [text for role, answer in given.items() if (text := _text(role, answer, render, bold))]
        if texts:
            print(between.join(texts))
        complete = complete and len(texts) == len(given)
    return Exit.OK if complete else Exit.UNREACHABLE


def _text(role: str, answer: Any, render: Render, bold: Bold) -> str | None:
    """None, and a complaint, if the answer lacks something or has it in another shape: a daemon of another version."""
    try:
        return render(role, cleaned(answer), bold)
    except (KeyError, TypeError, ValueError, AttributeError):
        _complain(f"hybridctl: {inquiry.not_understood(role)}")
        return None


# doctor


def _doctor(options: argparse.Namespace) -> int:
    from ctl import doctor  # which needs as much as a daemon, and this command alone needs it

    findings = [asdict(finding) for finding in doctor.examine(options.file)]
    lacking = any(finding["needed"] and finding["found"] is False for finding in findings)
    if options.json:
        print(json.dumps({"ok": not lacking, "findings": findings}))
    else:
        print(display.findings(cleaned(findings), emphasis(sys.stdout, os.environ)))
    return Exit.LACKING if lacking else Exit.OK


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
    "check": Command(_check, "say whether a configuration file is right, and what is not", (_FILE, _JSON), _CHECKING),
    "status": Command(
        _status,
        "show the running daemons and what became of connections so far",
        (_JSON, _ROLE, _RUN_DIR),
        _ASKING.format(one="an object"),
    ),
    "links": Command(
        _links,
        "show a home router's links: up or not, round trips, rates",
        (_JSON, _RUN_DIR),
        _LINKS,
    ),
    "policy": Command(
        _policy,
        "show which of a home router's links carry what, and why",
        (_JSON, _RUN_DIR),
        _POLICY,
    ),
    "steering": Command(
        _steering,
        "show or change a home router's mode of steering",
        (_SET, _MODE, _JSON, _RUN_DIR),
        _STEERING,
    ),
    "flows": Command(
        _flows,
        "show the connections that are relayed now, the oldest first",
        (_JSON, _COUNT, _ROLE, _RUN_DIR),
        _ASKING.format(one="a list, with --count a number"),
    ),
    "events": Command(
        _events,
        "show what has happened lately, and why",
        (_FOLLOW, _JSON, _ROLE, _RUN_DIR),
        _FOLLOWING + _ASKING.format(one="a list, the oldest first"),
    ),
    "reload": Command(
        _reload,
        "have the running daemons read their configuration again",
        (_JSON, _ROLE, _RUN_DIR),
        _RELOADING + _ASKING.format(one='{"changed": [...], "errors": [...]}'),
    ),
    "doctor": Command(
        _doctor,
        "list what this box offers, and what is done without the rest",
        (_LOCAL, _JSON, _OF_FILE),
        _EXAMINING,
    ),
    "log": Command(
        _log,
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
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary.capitalize()}.",
            epilog=f"{command.details}\n{_STATUSES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for argument in command.arguments:
            subparser.add_argument(argument.name, **argument.settings)
    return parser
