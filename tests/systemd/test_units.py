# SPDX-License-Identifier: GPL-2.0-or-later
"""The units: right for systemd, as closed as promised, and of one mind with the daemons."""

import shutil
import subprocess
from pathlib import Path

import pytest

from common.daemon import Exit

UNITS = sorted((Path(__file__).parents[2] / "systemd").glob("*.service"))
EXPOSURE = 2.0  # at most, of 10

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="the program 'systemd-analyze' is not installed"
)


def option(unit: Path, name: str) -> list[str]:
    """The values of an option, in order."""
    return [line.partition("=")[2] for line in unit.read_text().splitlines() if line.startswith(f"{name}=")]


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_exposure(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_makes_no_sense_to_try_again(unit: Path) -> None:
    (statuses,) = option(unit, "RestartPreventExitStatus")
    assert [int(status) for status in statuses.split()] == [Exit.USAGE, Exit.SYSTEM, Exit.CONFIG]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_daemon_that_hangs_is_replaced_within_ten_seconds(unit: Path) -> None:
    seconds = [float(option(unit, name)[0]) for name in ("WatchdogSec", "TimeoutAbortSec", "RestartSec")]
    assert sum(seconds) <= 8.0  # and the start


def test_both_are_alike() -> None:
    cpe, hag = (unit.read_text() for unit in UNITS)
    words = {"home router (CPE)": "aggregation gateway (HAG)", "hybrid-cpe": "hybrid-hag", "--role cpe": "--role hag"}
    for of_cpe, of_hag in words.items():
        cpe = cpe.replace(of_cpe, of_hag)
    assert cpe == hag
