# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel settings that the daemon changes while it runs, and their former values.

The former values are written to a file in the run directory before the first change, so that the daemon that
follows a crash gives back what the user had, and not what the crashed one had set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.log import log
from common.system import SystemLacks


@dataclass(frozen=True, slots=True)
class Setting:
    """A sysctl by its dotted name. One that the kernel lacks is an error, or with ``optional`` no matter."""

    name: str
    value: str
    why: str
    optional: bool = False

    @property
    def path(self) -> Path:
        return Path("/proc/sys") / self.name.replace(".", "/")


class Settings:
    """The settings of one daemon; ``memory`` is the file with the former values."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory

    def apply(self, settings: Iterable[Setting]) -> None:
        """Raises SystemLacks if the kernel does not have one of them or does not let us set it."""
        present = [setting for setting in settings if _is_there(setting)]
        former = {setting.name: setting.path.read_text().strip() for setting in present}
        former.update(self._remembered())
        self._memory.write_text(json.dumps(former))
        for setting in present:
            if setting.path.read_text().strip() == setting.value:
                continue
            try:
                setting.path.write_text(setting.value)
            except OSError as error:
                raise SystemLacks(f"cannot set {setting.name}={setting.value}: {error.strerror}") from None
            log.info("%s set from %s to %s: %s", setting.name, former[setting.name], setting.value, setting.why)

    def restore(self) -> None:
        for name, value in self._remembered().items():
            path = Path("/proc/sys") / name.replace(".", "/")
            try:
                if path.read_text().strip() != value:
                    path.write_text(value)
            except OSError as error:
                log.warning("%s is not restored to %s: %s", name, value, error.strerror)
        self._memory.unlink(missing_ok=True)

    def _remembered(self) -> dict[str, str]:
        try:
            former = json.loads(self._memory.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(former, dict):
            return {}
        return {name: value for name, value in former.items() if isinstance(name, str) and isinstance(value, str)}


def _is_there(setting: Setting) -> bool:
    if setting.path.exists():
        return True
    if setting.optional:
        return False
    raise SystemLacks(f"the kernel has no setting {setting.name}, needed because: {setting.why}")
