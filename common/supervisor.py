# SPDX-License-Identifier: GPL-2.0-or-later
"""Who started the daemon and wants to know how it is: systemd's notification protocol, as in sd_notify(3).

A datagram of NAME=VALUE lines to the socket that $NOTIFY_SOCKET names. Where there is none, nothing is sent: under
procd, in a terminal. It is spoken here, and not by way of systemd-python: that is compiled against libsystemd, so it
comes as no wheel, and OpenWrt has nothing to compile it against.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, MutableMapping
from typing import Final

from common.log import one_line

_PATIENCE: Final = 0.2  # seconds for a service manager that is busy; the loop waits meanwhile
_LONGEST: Final = 512  # characters of a status


class Supervisor:
    """Takes what it needs from ``environment``, so that programs that we start do not speak for us.

    ``watchdog`` is the time in seconds within which a sign of life is expected; None if nobody expects one.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = _address(environment.pop("NOTIFY_SOCKET", ""))
        self.watchdog = _watchdog(environment)

    def ready(self, status: str) -> None:
        """The daemon does its work: after the start, and again after busy() or reloading()."""
        self._send(READY="1", STATUS=_short(status), **self._within(self.watchdog))

    def status(self, text: str) -> None:
        """What it does, in a line."""
        self._send(STATUS=_short(text))

    def alive(self) -> None:
        self._send(WATCHDOG="1")

    def busy(self, seconds: float) -> None:
        """The next sign of life, which is ready(), comes within ``seconds``."""
        self._send(**self._within(seconds))

    def reloading(self, now: float, seconds: float) -> None:
        """Like busy(). ``now`` is the monotonic clock's."""
        self._send(RELOADING="1", MONOTONIC_USEC=str(int(now * 1e6)), **self._within(seconds))

    def stopping(self, seconds: float, status: str) -> None:
        """It ends, within ``seconds``."""
        self._send(STOPPING="1", STATUS=_short(status), EXTEND_TIMEOUT_USEC=str(int(seconds * 1e6)))

    def _within(self, seconds: float | None) -> dict[str, str]:
        """Has the watchdog wait so long from now on; nothing where there is none."""
        if not self.watchdog or not seconds:
            return {}
        return {"WATCHDOG": "1", "WATCHDOG_USEC": str(int(seconds * 1e6))}

    def _send(self, **state: str) -> None:
        if self._address is None or not state:
            return
        text = "\n".join(f"{name}={value}" for name, value in state.items())
        # Whoever does not listen any more misses something, and we do not.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_PATIENCE)
            sender.sendto(text.encode(), self._address)


def _address(text: str) -> str | None:
    """A path, or with @ a name in the abstract namespace; other kinds (vsock) are for virtual machines."""
    if text.startswith("/"):
        return text
    return "\0" + text[1:] if text.startswith("@") else None


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """As in sd_watchdog_enabled(3): for this process, unless it is said to be for another."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or not microseconds.isdecimal():
        return None
    return int(microseconds) / 1e6 or None


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
