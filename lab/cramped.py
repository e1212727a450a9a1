# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts a daemon, whose command is given as arguments; its table's sets have little room, for tests of full ones."""

import shutil
import sys
from pathlib import Path

from common import nft
from cpe.daemon import main as cpe_main
from hag.daemon import main as hag_main

ROOM = 16  # entries
_SIZE = "size 1048576"


def cramp(directory: Path) -> None:
    """Has the daemon use a copy of the rulesets there, in which nothing else is changed."""
    shutil.copytree(nft.rules_directory(), directory, dirs_exist_ok=True)
    for file in directory.glob("*.nft"):
        file.write_text(file.read_text().replace(_SIZE, f"size {ROOM}"))
    nft.rules_directory = lambda: directory


def main() -> int:
    _python, _m, role, *arguments = sys.argv[1:]
    cramp(Path(arguments[arguments.index("--run-dir") + 1]) / f"{role}-nftables")
    return (hag_main if role == "hag" else cpe_main)(arguments)


if __name__ == "__main__":
    sys.exit(main())
