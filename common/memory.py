# SPDX-License-Identifier: GPL-2.0-or-later
"""Small files in the run directory, for the daemon that comes next."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write(file: Path, text: str) -> None:
    """All of it or nothing: a disk that is full keeps what was there. No link is followed. Raises OSError."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "w") as stream:
            stream.write(text)
        new.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
