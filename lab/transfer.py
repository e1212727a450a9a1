# SPDX-License-Identifier: GPL-2.0-or-later
"""One file over HTTP, by curl, as a user would move it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.node import Node

TIMEOUT = 300.0  # seconds


@dataclass(frozen=True, slots=True)
class Transfer:
    """How it went: `size` in bytes of the file, times in seconds since the start; `sha256` of a download."""

    size: int
    connected: float  # the SYN+ACK is there
    began: float  # the first byte of the file moves
    ended: float
    sha256: str = ""

    @property
    def rate(self) -> float:
        """bit/s of the file, from its first byte to its last."""
        return self.size * 8 / (self.ended - self.began)


def download(node: Node, url: str, *, source: str = "") -> Transfer:
    """GETs `url`, from the node's address `source` if given. LabError with curl's words if it fails."""
    file = node.directory / "download"
    try:
        told = _curl(node, url, source, "--output", str(file))
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    finally:
        file.unlink(missing_ok=True)
    began = float(told["time_starttransfer"])
    return Transfer(told["size_download"], told["time_connect"], began, told["time_total"], sha256)


def upload(node: Node, url: str, file: Path, *, source: str = "") -> Transfer:
    """PUTs `file` to `url`; else as `download`."""
    told = _curl(node, url, source, "--upload-file", str(file), "--header", "Expect:")
    began = float(told["time_pretransfer"])
    return Transfer(told["size_upload"], told["time_connect"], began, told["time_total"])


def _curl(node: Node, url: str, source: str, *options: str) -> dict[str, Any]:
    command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--write-out", "%{json}"]
    if source:
        command += ["--interface", source]
    done = node.run([*command, *options, url], timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        raise LabError(f"{url} failed: {done.stderr.strip()}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told
