# SPDX-License-Identifier: GPL-2.0-or-later
"""What links have used of their quotas, in a file that outlives restarts and power cuts.

A card may take seconds to write a file, so a thread does it: the loop goes on, and gives its signs of life.

What a device has counted since the last writing is in its counters, so a daemon that dies forgets nothing. A power cut
takes the counters too: then what was used since the last writing is forgotten. Never is more remembered than was used.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, Final

from common.log import about, log
from cpe.quota import Reading, Record

_FILE: Final = "quota.json"
_FORMAT: Final = 1
_LONGEST: Final = 1 << 20  # bytes of a file that may be ours
_PATIENCE: Final = 1.0  # seconds that a daemon which ends waits for the disk


class Ledger:
    """In ``directory``, which is made where there is none. A file system that fails costs what it would have kept."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / _FILE
        self._failing = False
        self._writer: _Writer | None = None
        self.written: Mapping[str, Record] = {}

    def read(self) -> dict[str, Record]:
        """By the name of the link. A file that is none of ours, or damaged, is set aside and told of."""
        try:
            with self._file.open("rb") as file:
                self.written = parse(file.read(_LONGEST))
            return dict(self.written)
        except FileNotFoundError:
            return {}
        except OSError as error:
            log.warning("what links have used before is not known: cannot read %s: %s", self._file, error.strerror)
            return {}
        except ValueError as error:
            aside = self._file.with_suffix(".damaged")
            with contextlib.suppress(OSError):
                self._file.replace(aside)
            text = "what links have used before is not known: %s: %s; it is set aside as %s"
            log.warning(text, self._file, error, aside, extra=about(file=self._file, reason=error))
            return {}

    @property
    def busy(self) -> bool:
        """Whether the disk has not done yet with what was begun before; if it has, a failure is told."""
        if self._writer is not None and not self._writer.is_alive():
            self._done(self._writer)
            self._writer = None
        return self._writer is not None

    def begin(self, records: Mapping[str, Record]) -> None:
        """Has them written, unless the disk is busy. ``written`` are these once they are on it."""
        if self.busy:
            return
        writer = _Writer(self._file, dict(records))
        try:
            writer.start()
        except RuntimeError as lack:  # of memory, or of processes that the service may have
            writer.error = OSError(errno.EAGAIN, str(lack))
        self._writer = writer

    def write(self, records: Mapping[str, Record]) -> bool:
        """Whether they are on the disk now; else what was there still is. Waits for it, but not for ever."""
        if not self._waited():
            return False
        self.begin(records)
        return self._waited() and self.written == records

    def _waited(self) -> bool:
        if self._writer is not None and self._writer.is_alive():
            self._writer.join(_PATIENCE)
        if self.busy:
            log.warning("the file system has not written %s in %g s", self._file, _PATIENCE)
        return self._writer is None

    def _done(self, writer: _Writer) -> None:
        """The first failure of several is told."""
        if writer.error is None:
            self.written = writer.records
        if writer.error is not None and not self._failing:
            told = "what links use of their quotas would be forgotten at a restart: cannot write %s: %s"
            reason = writer.error.strerror
            log.warning(told, self._file, reason, extra=about(file=self._file, reason=reason))
        elif writer.error is None and self._failing:
            log.info("what links use of their quotas is kept in %s again", self._file, extra=about(file=self._file))
        self._failing = writer.error is not None


class _Writer(threading.Thread):
    """Puts the file in place of the one before, whole or not at all. ``error`` says why not, once it has ended."""

    def __init__(self, file: Path, records: Mapping[str, Record]) -> None:
        super().__init__(name="ledger", daemon=True)
        self._file = file
        self.records = records
        self.error: OSError | None = None

    def run(self) -> None:
        new = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                new.unlink()  # of a daemon that died meanwhile, or somebody's link to somewhere else
            with new.open("xb") as file:
                file.write(text(self.records))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)
            _sync(self._file.parent)  # else the name may still be the old file's after a power cut
        except OSError as error:
            self.error = error
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def text(records: Mapping[str, Record]) -> bytes:
    """The file with these in it."""
    links = {name: {**asdict(record), "began": record.began.isoformat()} for name, record in records.items()}
    return json.dumps({"format": _FORMAT, "links": links}, indent=1).encode() + b"\n"


def parse(data: bytes) -> dict[str, Record]:
    """What text() has written. Raises ValueError, with a reason, for anything else."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is not all there, or not ours") from None
    match content:
        case {"format": int(version), "links": dict(links)} if version == _FORMAT:
            try:
                return {str(name): _record(told) for name, told in links.items()}
            except (KeyError, TypeError, ValueError, AttributeError):
                raise ValueError("there is something in it that we have not written") from None
        case {"format": int(version)}:
            raise ValueError(f"it has format {version}, of another version of this program")
    raise ValueError("it is not ours")


def _record(told: dict[str, Any]) -> Record:
    reading = told["reading"]
    return Record(
        date.fromisoformat(told["began"]),
        _count(told["down"]),
        _count(told["up"]),
        told["warned"] is True,
        None if reading is None else _reading(reading),
        _seconds(told.get("astray", 0.0)),  # earlier ones did not keep it
    )


def _reading(told: dict[str, Any]) -> Reading:
    device, boot = told["device"], told["boot"]
    if not (isinstance(device, str) and isinstance(boot, str)):
        raise TypeError
    return Reading(device, _count(told["index"]), boot, _count(told["down"]), _count(told["up"]))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise TypeError
    return float(value)
