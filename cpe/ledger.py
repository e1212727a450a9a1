# SPDX-License-Identifier: GPL-2.0-or-later
"""What links have used of their quotas, in a file that outlives restarts and power cuts.

What a device has counted since the last writing is in its counters, so a daemon that dies forgets nothing. A power cut
takes the counters too: then what was used since the last writing is forgotten. Never is more remembered than was used.
"""

from __future__ import annotations

import contextlib
import json
import os
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


class Ledger:
    """In ``directory``, which is made where there is none. A file system that fails costs what it would have kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / _FILE
        self._failing = False

    def read(self) -> dict[str, Record]:
        """By the name of the link. A file that is none of ours, or damaged, is set aside and told of."""
        try:
            with self._file.open("rb") as file:
                return parse(file.read(_LONGEST))
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

    def write(self, records: Mapping[str, Record]) -> bool:
        """Whether they are on the disk now; else what was there still is. The first failure of several is told."""
        new = self._file.with_suffix(".new")
        try:
            self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                new.unlink()  # of a daemon that died meanwhile, or somebody's link to somewhere else
            with new.open("xb") as file:
                file.write(text(records))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)
            _sync(self._directory)  # else the name may still be the old file's after a power cut
        except OSError as error:
            if not self._failing:
                told = "what links use of their quotas would be forgotten at a restart: cannot write %s: %s"
                log.warning(told, self._file, error.strerror, extra=about(file=self._file, reason=error.strerror))
            self._failing = True
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            return False
        if self._failing:
            log.info("what links use of their quotas is kept in %s again", self._file, extra=about(file=self._file))
        self._failing = False
        return True


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
