# SPDX-License-Identifier: GPL-2.0-or-later
"""The log: one record a line on standard error, where a service manager picks it up."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("hybrid-access")

LEVELS = ("debug", "info", "warning", "error")


class _OneLine(logging.Formatter):
    """Whatever a record holds, it cannot start another line or move the reader's cursor."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def start(name: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(f"{name}[%(process)d] %(levelname)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False
