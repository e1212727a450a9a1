# SPDX-License-Identifier: GPL-2.0-or-later
"""What a configuration that is read again changes, and what of that a running daemon cannot. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from common.config import SECTIONS, CpeConfig, HagConfig

_SINGULAR: Final = {"subscribers": "subscriber", "join_addresses": "join_address"}
# fields that are sections of their own, and whether these can change
_SECTIONS: Final = {"links": ("link", False), "bypass": ("bypass", True), "policies": ("policy", True)}


@dataclass(frozen=True, slots=True)
class Changes:
    """Options and sections that differ, as the file calls them: those that can change at run time, and the others."""

    live: tuple[str, ...]
    fixed: tuple[str, ...]


def changes(old: CpeConfig | HagConfig, new: CpeConfig | HagConfig) -> Changes:
    """Of two configurations of one role."""
    table = SECTIONS["cpe" if isinstance(old, CpeConfig) else "hag"]
    live: list[str] = []
    fixed: list[str] = []
    for field in fields(old):
        if getattr(old, field.name) == getattr(new, field.name):
            continue
        if field.name in _SECTIONS:
            section, can_change = _SECTIONS[field.name]
            (live if can_change else fixed).append(f"config {section}")
        else:
            entry = table[option := _SINGULAR.get(field.name, field.name)]
            (live if entry.live else fixed).append(f"{entry.keyword} {option}")
    return Changes(tuple(live), tuple(fixed))
