# SPDX-License-Identifier: GPL-2.0-or-later
"""What the box must offer before anything is installed on it."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from common.transparent import MPTCP


class SystemLacks(Exception):
    """The box lacks a privilege, a kernel feature, a program or a device; the text is one sentence that names it."""


class Unavailable(SystemLacks):
    """What is missing may come by itself, or somebody else has it for now: trying again later makes sense."""


class AlreadyRuns(Unavailable):
    """Another daemon has what this one needs."""


def lack(error: OSError, text: str) -> SystemLacks:
    """Because of ``error``, which may pass if it is a full disk."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return (Unavailable if full else SystemLacks)(f"{text}: {error.strerror or error}")


def require_program(name: str, package: str) -> str:
    for directory in (*os.get_exec_path(), "/usr/sbin", "/sbin", "/usr/bin", "/bin"):
        path = Path(directory, name)
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise SystemLacks(f"the program '{name}' is missing: install the package {package}")


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
        raise Unavailable(f"there is no device '{name}' ({use})") from None


def device_name(index: int) -> str:
    """The name that the device has now; empty if it is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def families() -> tuple[socket.AddressFamily, ...]:
    """The address families that this box has; an administrator may have switched IPv6 off, or built it without."""
    switch = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
    if switch.exists() and switch.read_text().strip() == "0":
        return (socket.AF_INET, socket.AF_INET6)
    return (socket.AF_INET,)
