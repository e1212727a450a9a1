# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lab's scenarios show, on this kernel: with --slow-machine, for the processor is emulated."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("scenario", ["handshake", "fail-open", "bonding"])
def test_scenario(capsys: pytest.CaptureFixture[str], scenario: str, family: int) -> None:
    """Its figures are shown at once, whether it passes or not."""
    command = ["run", scenario, "--family", str(family), "--json", "--slow-machine"]
    done = subprocess.run(
        [sys.executable, "-m", "lab", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0
