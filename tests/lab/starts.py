# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemons that are started without waiting until they are ready: most of them never are."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lab.daemons import Daemon
from lab.process import Process, python_path

RECORD = re.compile(r"hybrid-(?:cpe|hag)\[\d+\] (INFO|WARNING|ERROR): (.+)")
BOUND = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Ended:
    """A daemon's whole life: its exit status and what it wrote."""

    status: int
    text: str

    @property
    def records(self) -> list[tuple[str, str]]:
        """What it logged as (level, sentence); AssertionError if it wrote anything else, such as a traceback."""
        found = [(line, RECORD.fullmatch(line)) for line in self.text.splitlines()]
        assert all(match for _, match in found), self.text
        return [(match[1], match[2]) for _, match in found if match]

    @property
    def errors(self) -> list[str]:
        return [sentence for level, sentence in self.records if level == "ERROR"]


def background(daemon: Daemon, prefix: Sequence[str] = (), arguments: Sequence[str] = ()) -> Process:
    """Starts it by way of the command in `prefix`; `arguments` are added to its own and win."""
    command = [*prefix, sys.executable, "-m", daemon.role, "--config", str(daemon.config_file)]
    command += ["--run-dir", str(daemon.run_dir), *arguments]
    return daemon.node.start(command, log=daemon.log_file, environment=python_path(), name=daemon.name)


def to_the_end(daemon: Daemon, prefix: Sequence[str] = (), arguments: Sequence[str] = ()) -> Ended:
    """Starts it and waits for it to end by itself. LabError if it does not."""
    process = background(daemon, prefix, arguments)
    return Ended(process.wait(BOUND), process.output())
