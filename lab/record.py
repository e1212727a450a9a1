# SPDX-License-Identifier: GPL-2.0-or-later
"""The record of a lab on disk: who owns it and what it made, so that a killed lab can be removed."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.netns import Namespace

RUN_LABS = Path("/run/hybrid-lab")


@dataclass(frozen=True, slots=True)
class Record:
    """`started` is the owner's start time in clock ticks since boot, lest a reused pid pass for the owner."""

    name: str
    owner: int
    started: int
    namespaces: tuple[str, ...]

    @classmethod
    def create(cls, name: str, namespaces: tuple[str, ...]) -> "Record":
        """Makes the lab's directory, /run/hybrid-lab/NAME, with the record; this process is its owner."""
        record = cls(name, os.getpid(), _start_time(os.getpid()) or 0, namespaces)
        record.directory.mkdir(parents=True, mode=0o755)
        record._file.write_text(json.dumps(asdict(record)) + "\n")
        return record

    @property
    def directory(self) -> Path:
        return RUN_LABS / self.name

    @property
    def _file(self) -> Path:
        return self.directory / "lab.json"

    @property
    def abandoned(self) -> bool:
        """Whether the process that owns the lab is gone."""
        return _start_time(self.owner) != self.started

    def remove(self) -> None:
        """Removes the namespaces with all that runs in them, and the directory; what is gone is fine."""
        for name in self.namespaces:
            Namespace(name).delete()
        shutil.rmtree(self.directory, ignore_errors=True)


def records() -> Iterator[Record]:
    """The labs that exist on this machine, abandoned or not."""
    for file in sorted(RUN_LABS.glob("*/lab.json")):
        try:
            fields = json.loads(file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # being written or removed at this moment
        yield Record(fields["name"], fields["owner"], fields["started"], tuple(fields["namespaces"]))


def clean() -> list[str]:
    """Removes every abandoned lab and gives their names."""
    removed = []
    for record in records():
        if record.abandoned:
            record.remove()
            removed.append(record.name)
    return removed


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None if there is no such process or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
