# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures as people read them: volumes, durations, numbers of things, addresses with ports."""

from __future__ import annotations

from typing import Final

_VOLUMES: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
_DURATIONS: Final = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def volume(count: int) -> str:
    """Bytes in binary units (IEC 80000-13): '84 B', '1.27 GiB'."""
    if count < 1024:
        return f"{count} B"
    value = count / 1024
    unit = 0
    while round(value, 2) >= 1024 and unit < len(_VOLUMES) - 1:
        value /= 1024
        unit += 1
    return f"{value:.2f} {_VOLUMES[unit]}"


def rate(bits: int) -> str:
    """Bits per second in decimal units: '12.3 Mbit/s', '896 bit/s'."""
    value = float(bits)
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if value < 999.95:
            return f"{value:.0f} {unit}" if unit == "bit/s" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} Gbit/s"


def duration(seconds: float) -> str:
    """The two largest units that there are something of: '1 minute, 12 seconds'; what is below a second is dropped."""
    rest = int(seconds)
    parts: list[tuple[int, str]] = []
    for name, length in _DURATIONS:
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append((count, name))
    return ", ".join(number(count, name) for count, name in parts[:2] if count) or "under a second"


def number(count: int, noun: str) -> str:
    """How many of a thing, which takes an s where there is not one: '1 subflow', '2 subflows'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def endpoint(address: str, port: int) -> str:
    """'192.0.2.1:80' or '[2001:db8::1]:80' (RFC 3986, section 3.2.2)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
