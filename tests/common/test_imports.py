# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemons load at their start. A home router has 128 MB and a processor a tenth as fast as a desk's."""

import subprocess
import sys

import pytest

# Each is a second on a home router, or some megabytes there, and most come along with something harmless.
TOO_LARGE = {
    "asyncio",
    "bz2",
    "concurrent",
    "difflib",
    "email",
    "importlib.metadata",
    "lzma",
    "multiprocessing",
    "pyroute2",
    "scapy",
    "shutil",
    "sqlite3",
    "ssl",
    "tempfile",
    "unittest",
    "zipfile",
}


@pytest.mark.parametrize("daemon", ["cpe.daemon", "hag.daemon"])
def test_a_daemon_loads_nothing_large(daemon: str) -> None:
    # -S, -I: nothing of the test's environment, such as editable installs with import hooks.
    said = f"import sys; sys.path[:] = {sys.path!r}; before = set(sys.modules); import {daemon}"
    command = [sys.executable, "-S", "-I", "-c", f"{said}; print(*(set(sys.modules) - before))"]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert daemon in loaded
    assert loaded & TOO_LARGE == set()
