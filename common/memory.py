# SPDX-License-Identifier: GPL-2.0-or-later
"""Small files in the run directory, for the daemon that comes next."""

from __future__ import annotations

import contextlib
from pathlib import Path


def write(file: Path, text: str) -> None:
    """All of it or nothing: a disk that is full keeps what was there. Raises OSError."""
    new = file.with_name(f"{file.name}.new")
    try:
        new.write_text(text)
        new.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
