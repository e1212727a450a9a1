# SPDX-License-Identifier: GPL-2.0-or-later
"""Capabilities (capabilities(7)): what the daemon must have, and what a worker gives away."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import Final

from common.system import SystemLacks

# Control needs both to install its rules and sockets. A worker needs CAP_NET_RAW for the clients' addresses on its
# sockets, and CAP_NET_ADMIN because the kernel asks for it on every verdict (net/netfilter/nfnetlink.c).
_NEEDED: Final = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
_KEPT: Final = sum(1 << bit for bit in _NEEDED.values())

_CAPABILITY_VERSION_3: Final = 0x20080522
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38


def require() -> None:
    """Raises SystemLacks if the process does not have what it needs."""
    effective = _held("CapEff")
    missing = [name for name, bit in _NEEDED.items() if not effective >> bit & 1]
    if missing:
        raise SystemLacks(f"{' and '.join(missing)} missing: start as root, or with these capabilities")


def drop_the_rest() -> None:
    """Gives away every capability that is not needed, for good. Raises OSError.

    There may be nothing to give away: a service manager that starts us with these alone forbids capset(2), too.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for bit in range(last + 1):
        # EPERM: without CAP_SETPCAP there is no way to get one back either.
        if bit not in _NEEDED.values():
            libc.prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)
    if _held("CapPrm") != _KEPT:
        header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
        # effective, permitted, inheritable: the low halves, then the high ones
        if libc.capset(header, struct.pack("=6I", _KEPT, _KEPT, 0, 0, 0, 0)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _held(kind: str) -> int:
    """A set of capabilities of this process, by its name in /proc/PID/status (proc(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1], 16)
    return 0
