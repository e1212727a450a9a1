# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd's journal and syslog take: bytes of one record. Pure.

Sources: https://systemd.io/JOURNAL_NATIVE_PROTOCOL and systemd.journal-fields(7); RFC 3164, section 4.1, less the time,
which whoever receives it knows.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping
from typing import Final

_SEVERITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_FACILITY: Final = 3  # system daemons


def native(fields: Mapping[str, str]) -> bytes:
    """A datagram for the journal's socket: a line for each field, or with its length where the value has several."""
    parts = []
    for name, value in fields.items():
        data = value.encode(errors="backslashreplace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def syslog(name: str, pid: int, level: int, text: str) -> bytes:
    """A datagram for /dev/log."""
    return f"<{_FACILITY * 8 + severity(level)}>{name}[{pid}]: {text}".encode(errors="backslashreplace")


def severity(level: int) -> int:
    """Syslog's number (RFC 3164, section 4.1.1) for a level of the module logging."""
    return _SEVERITY.get(level, 5)
