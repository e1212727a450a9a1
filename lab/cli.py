# SPDX-License-Identifier: GPL-2.0-or-later
"""hybrid-lab: runs scenarios, opens a shell inside a lab, removes what killed labs have left."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from lab import record
from lab.daemons import start_daemons
from lab.errors import LabError, SystemLacksError
from lab.node import ADDRESSES
from lab.scenario import Figures, Scenario, all_scenarios
from lab.topology import Lab, check_system

OK, FAILED, USAGE, LACKS, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed, 2 wrong command line, 3 the system lacks something, 130 ^C."""
    parser = command_line()
    options = parser.parse_args(arguments)
    try:
        status: int = options.command(options)
    except SystemLacksError as error:
        return complain(options, error, LACKS)
    except LabError as error:
        return complain(options, error, FAILED)
    except KeyboardInterrupt:
        return complain(options, "interrupted", INTERRUPTED)
    return status


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybrid-lab", description=__doc__.partition(": ")[2])
    parser.set_defaults(json=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a scenario and print its figures")
    names = sorted(all_scenarios())
    run.add_argument("scenario", choices=names, metavar="SCENARIO", help="see 'hybrid-lab list'")
    run.add_argument("--family", type=int, choices=(4, 6), default=4, help="IPv4 (the default) or IPv6")
    run.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    run.add_argument("--row", action="append", help="only this row of a scenario that has rows; may be repeated")
    run.add_argument(
        "--slow-machine",
        action="store_true",
        help="slower accesses and looser bounds, for a machine whose processor is emulated",
    )
    run.set_defaults(command=run_scenario)

    demo = commands.add_parser("demo", help="see both accesses alone and bonded, in about a minute")
    demo.set_defaults(command=show_demo)

    commands.add_parser("list", help="list the scenarios").set_defaults(command=list_scenarios)

    shell = commands.add_parser("shell", help="build a lab and open a shell inside one of its nodes")
    shell.add_argument("node", choices=sorted(ADDRESSES), metavar="NODE", help=", ".join(ADDRESSES))
    shell.add_argument(
        "--daemons",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start hybrid-cpe and hybrid-hag",
    )
    shell.set_defaults(command=open_shell)

    commands.add_parser("clean", help="remove labs whose owner was killed").set_defaults(command=clean)
    return parser


def run_scenario(options: argparse.Namespace) -> int:
    scenario = all_scenarios()[options.scenario]
    if options.row:
        if scenario.only is None:
            return complain(options, f"scenario '{scenario.name}' has no rows", USAGE)
        try:
            scenario = scenario.only(options.row)
        except LabError as error:
            return complain(options, error, USAGE)
    if options.slow_machine:
        if scenario.slow is None:
            return complain(options, f"scenario '{scenario.name}' is not for slow machines", USAGE)
        scenario = scenario.slow
    check_system()
    try:
        from lab.display import show, showing_progress
    except ModuleNotFoundError as error:
        raise SystemLacksError(f"the Python package '{error.name}' is not installed") from None
    with showing_progress() as progress:
        figures = scenario.run(options.family, progress)
    if options.json:
        print(json.dumps(report(scenario, options.family, figures)))
    else:
        show(scenario, options.family, figures)
    return FAILED if scenario.missed(figures) else OK


def report(scenario: Scenario, family: int, figures: Figures) -> dict[str, Any]:
    """What --json prints."""
    missed = scenario.missed(figures)
    return {
        "scenario": scenario.name,
        "family": family,
        **figures,
        "passed": not missed,
        "missed": [f"{bound.figure} must be {bound}" for bound in missed],
    }


def show_demo(_options: argparse.Namespace) -> int:
    check_system()
    try:
        from rich.console import Console

        from lab import demo
    except ModuleNotFoundError as error:
        raise SystemLacksError(f"the Python package '{error.name}' is not installed") from None
    return OK if demo.run(Console()) else FAILED


def list_scenarios(_options: argparse.Namespace) -> int:
    for scenario in all_scenarios().values():
        print(f"{scenario.name:<20} {scenario.summary}")
    return OK


def open_shell(options: argparse.Namespace) -> int:
    with Lab() as lab:
        if options.daemons:
            start_daemons(lab)
        for node in lab.nodes:
            print(f"{node.label}: ip netns exec {node.name} ...; files in {node.directory}")
            for device, addresses in ADDRESSES[node.label].items():
                print(f"    {device:<6}", *addresses)
        node = {node.label: node for node in lab.nodes}[options.node]
        shell = os.environ.get("SHELL", "/bin/sh")
        print(f"This is {shell} inside {node.label}; leave it to remove the lab.", flush=True)
        with ignoring_interrupts(), node.entered():
            subprocess.run([shell], check=False, env={**os.environ, "debian_chroot": node.label})
    return OK


def clean(_options: argparse.Namespace) -> int:
    check_system()
    removed = record.clean()
    print("\n".join(f"removed lab {name}" for name in removed) or "nothing to remove")
    return OK


def complain(options: argparse.Namespace, error: Exception | str, status: int) -> int:
    """One sentence on standard error; with --json an object on standard output too."""
    print(f"hybrid-lab: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps({"scenario": options.scenario, "family": options.family, "error": str(error)}))
    return status


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Inside, ^C is for the program in the foreground alone."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)  # SIG_IGN would be inherited
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
