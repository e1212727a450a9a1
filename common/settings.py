# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel settings that the daemon changes while it runs, and their former values.

The former values are written to a file in the run directory before the first change, so that the daemon that
follows a crash gives back what the user had, and not what the crashed one had set.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from common import memory
from common.log import about, log
from common.system import SystemLacks, lack


class Setting(Protocol):
    """Something that has a value in the kernel: ``value`` is the one we want, and ``why``."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def why(self) -> str: ...
    def read(self) -> str | None:
        """The value now; None if this kernel lacks the setting. Raises OSError."""

    def write(self, value: str) -> None:
        """Raises OSError."""


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A setting under /proc/sys by its dotted name."""

    name: str
    value: str
    why: str

    @property
    def path(self) -> Path:
        return Path("/proc/sys") / self.name.replace(".", "/")

    def read(self) -> str | None:
        return self.path.read_text().strip() if self.path.exists() else None

    def write(self, value: str) -> None:
        self.path.write_text(value)


# What the legs need on either box. A path that swallows long packets and tells nobody would stop them for good. With
# probing alone the kernel tries shorter ones after 3 s of retransmissions: (2^(R1+1) - 1) x 0.2 s with R1 = 3, see
# tcp_write_timeout() in net/ipv4/tcp_timer.c.
FOR_LEGS: Final = (
    Sysctl("net.ipv4.tcp_mtu_probing", "1", "a path that loses long packets in silence must not end connections"),
    Sysctl("net.ipv4.tcp_retries1", "2", "so that shorter packets are tried after 1.4 s and not after 3"),
    # An ICMP error of this kernel otherwise has no mark, and one for a server leg goes to who has its address.
    Sysctl("net.ipv4.fwmark_reflect", "1", "server legs are to hear this host's own ICMP errors"),
    Sysctl("net.ipv6.fwmark_reflect", "1", "server legs are to hear this host's own ICMP errors"),
)


class Settings:
    """The settings of one daemon; ``memory`` is the file with the former values."""

    def __init__(self, memory: Path, settings: Sequence[Setting]) -> None:
        self._memory = memory
        self._settings = settings

    def apply(self) -> None:
        """Sets those that the kernel has. Raises SystemLacks if it does not let us."""
        try:
            former = {setting.name: value for setting in self._settings if (value := setting.read()) is not None}
            former.update(self._remembered())
            memory.write(self._memory, json.dumps(former))
        except OSError as error:
            raise lack(error, f"cannot note the settings of now in {self._memory}") from None
        for setting in self._settings:
            now = setting.read()
            if now is None or now == setting.value:
                continue
            try:
                setting.write(setting.value)
            except OSError as error:
                raise SystemLacks(f"cannot set {setting.name} to {setting.value}: {error.strerror}") from None
            why = about(setting=setting.name, reason=setting.why)
            log.info("%s changed from %s to %s: %s", setting.name, now, setting.value, setting.why, extra=why)

    def restore(self) -> None:
        """Gives back the former values."""
        remembered = self._remembered()
        for setting in reversed(self._settings):
            value = remembered.get(setting.name)
            try:
                if value is not None and setting.read() != value:
                    setting.write(value)
            except OSError as error:
                log.warning("%s is not restored to %s: %s", setting.name, value, error.strerror)
        self._memory.unlink(missing_ok=True)

    def _remembered(self) -> dict[str, str]:
        try:
            former = json.loads(self._memory.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(former, dict):
            return {}
        return {name: value for name, value in former.items() if isinstance(name, str) and isinstance(value, str)}
