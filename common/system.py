# SPDX-License-Identifier: GPL-2.0-or-later
"""What the box must offer before anything is installed on it."""

from __future__ import annotations

import errno
import shutil
import socket
from pathlib import Path
from typing import Final

from common.transparent import MPTCP

_CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}


class SystemLacks(Exception):
    """The box lacks a privilege, a kernel feature, a program or a device; the text is one sentence that names it."""


def require_privilege() -> None:
    effective = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        raise SystemLacks(f"{' and '.join(missing)} missing: start as root, or with these capabilities")


def require_program(name: str, package: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        raise SystemLacks(f"the program '{name}' is missing: install the package {package}")
    return path


def require_mptcp() -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP).close()
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            raise SystemLacks("Multipath TCP is switched off: set the sysctl net.mptcp.enabled to 1") from None
        raise SystemLacks("the kernel has no Multipath TCP (CONFIG_MPTCP; Linux 6.1 or later is needed)") from None


def require_device(name: str, use: str) -> int:
    """The ifindex of the device; ``use`` says in the error what it was wanted for."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise SystemLacks(f"there is no device '{name}' ({use})") from None
