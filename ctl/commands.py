# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of hybridctl: each takes the command line's options, prints, and returns the exit status."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

from common.config import Config, ConfigError, ConfigErrors, load
from ctl import display, inquiry
from ctl.following import follow
from ctl.inquiry import Absent, Unreachable
from ctl.terminal import Bold, cleaned, emphasis, printable

ROLES: Final = ("cpe", "hag")

Answers = dict[str, Any]
Render = Callable[[str, Any, Bold], str]


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


def complain(text: str) -> None:
    """On one line of standard error."""
    print(printable(text), file=sys.stderr)


# check


def check(options: argparse.Namespace) -> int:
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
            complain(str(error))
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


def status(options: argparse.Namespace) -> int:
    answers = _ask(options, partial(inquiry.ask, command="status"))
    return _show(options, answers, lambda _role, answer, bold: display.status(answer, bold))


def links(options: argparse.Namespace) -> int:
    options.role = "cpe"  # gateways have none
    answers = _ask(options, partial(inquiry.ask, command="links"))
    return _show(options, answers, lambda _role, answer, bold: display.links(answer, bold))


def policy(options: argparse.Namespace) -> int:
    options.role = "cpe"
    answers = _ask(options, partial(inquiry.ask, command="policy"))
    return _show(options, answers, lambda _role, answer, bold: display.policy(answer, bold))


def steering(options: argparse.Namespace) -> int:
    options.role = "cpe"
    if (options.action is None) is not (options.mode is None):
        complain("hybridctl: to change the steering, say: hybridctl steering set MODE")
        return Exit.USAGE
    wanted = {"set": options.mode} if options.mode else {}
    answers = _ask(options, partial(inquiry.ask, command="steering", **wanted))
    return _show(options, answers, lambda _role, answer, _bold: f"steering: {display.steering(answer)}")


def flows(options: argparse.Namespace) -> int:
    if options.count:
        answers = _ask(options, _count)
        several = len(answers) > 1
        return _show(options, answers, lambda role, count, _bold: f"{role}: {count}" if several else f"{count}", "\n")
    answers = _ask(options, partial(inquiry.ask, command="flows"))
    return _show(options, answers, display.titled_flows if len(answers) > 1 else display.flows)


def log(options: argparse.Namespace) -> int:
    answers = _ask(options, partial(inquiry.ask, command="log", level=options.level))
    return _show(options, answers, lambda role, answer, _bold: f"hybrid-{role} logs: {answer['level']}", "\n")


def reload(options: argparse.Namespace) -> int:
    answers = _ask(options, partial(inquiry.ask, command="reload", patience=inquiry.PATIENCE_TO_RELOAD))
    shown = _show(options, answers, display.reloaded, "\n")
    errors = [error for answer in answers.values() if answer is not None for error in answer.get("errors", ())]
    for error in errors:
        complain(f"hybridctl: {error}")
    return Exit.CONFIG if errors and shown == Exit.OK else shown


def events(options: argparse.Namespace) -> int:
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
        for role, several in follow(roles, options.run_dir, "events"):  # noqa: B007  # whose they are, if they are odd
            for event in several:
                print(json.dumps(event) if options.json else display.event(cleaned(event), bold))
            sys.stdout.flush()
    except Unreachable as reason:
        complain(f"hybridctl: {reason}")
    except (KeyError, TypeError, ValueError, AttributeError):
        complain(f"hybridctl: {inquiry.not_understood(role)}")
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
                complain(f"hybridctl: {reason}")
                answers[role] = None
    if not answers:
        _nobody(options.run_dir)
    return answers


def _nobody(run_dir: Path) -> int:
    absent = f"no cpe.sock or hag.sock in {run_dir}"
    complain(f"hybridctl: neither hybrid-cpe nor hybrid-hag is running ({absent})")
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
        complain(f"hybridctl: {inquiry.not_understood(role)}")
        return None


# doctor


def doctor(options: argparse.Namespace) -> int:
    from ctl.doctor import examine  # which needs as much as a daemon, and this command alone needs it

    findings = [asdict(finding) for finding in examine(options.file)]
    lacking = any(finding["needed"] and finding["found"] is False for finding in findings)
    if options.json:
        print(json.dumps({"ok": not lacking, "findings": findings}))
    else:
        print(display.findings(cleaned(findings), emphasis(sys.stdout, os.environ)))
    return Exit.LACKING if lacking else Exit.OK
