# SPDX-License-Identifier: GPL-2.0-or-later
"""Where and with what something was measured."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

VERSIONS = {
    "iperf3": ["iperf3", "--version"],
    "HAProxy": ["haproxy", "-v"],
    "ab": ["ab", "-V"],
    "nginx": ["nginx", "-v"],
}


def machine() -> dict[str, str]:
    """What figures must be read with; `load` is how many others wanted the machine in the minutes before."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{len(models)} cores, {models[0] if models else platform.machine()}",
        "kernel": platform.release(),
        "congestion control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "Python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f} at the start",
        **{name: _version(command) for name, command in VERSIONS.items()},
    }


def _version(command: list[str]) -> str:
    """The first line that the program says of itself."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    said = (done.stdout or done.stderr).strip()
    return said.splitlines()[0] if said else "unknown"
