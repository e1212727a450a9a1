# SPDX-License-Identifier: GPL-2.0-or-later
"""hybrid-lab as its users meet it: output, exit status, and what is left."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from lab.process import python_path
from lab.record import records

Done = subprocess.CompletedProcess[str]
COMMAND = [sys.executable, "-m", "lab"]
ENVIRONMENT = {**os.environ, **python_path(), "SHELL": "/bin/sh"}


NOBODY = ["setpriv", "--bounding-set=-all", "--reuid=65534", "--clear-groups"]


def hybrid_lab(*arguments: str, prefix: Sequence[str] = (), stdin: str = "") -> Done:
    command = [*prefix, *COMMAND, *arguments]
    return subprocess.run(command, input=stdin, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_list() -> None:
    done = hybrid_lab("list")
    assert done.returncode == 0
    assert any(line.startswith("forwarding ") for line in done.stdout.splitlines())


def test_wrong_command_line() -> None:
    done = hybrid_lab("run", "nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert "invalid choice: 'nonsense'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fidelity", "--row", "99z"], "there is no row 99z; there are 1a "),
        (["forwarding", "--row", "1a"], "scenario 'forwarding' has no rows"),
    ],
)
def test_rows_that_there_are_not(arguments: list[str], words: str) -> None:
    done = hybrid_lab("run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_not_for_slow_machines() -> None:
    done = hybrid_lab("run", "forwarding", "--slow-machine")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "hybrid-lab: scenario 'forwarding' is not for slow machines\n"


@pytest.mark.root
def test_rows_of_the_matrix() -> None:
    done = hybrid_lab("run", "fidelity", "--json", "--family", "6", "--row", "8a", "--row", "1a")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["family"], report["failed"], report["skipped"], report["passed"]) == (6, 0, 0, True)
    assert [(row["row"], row["ok"]) for row in report["rows"]] == [("1a", True), ("8a", True)]
    assert all(row["ms"] > 0 and row["name"] for row in report["rows"])


@pytest.mark.root
def test_without_privilege() -> None:
    done = hybrid_lab("run", "forwarding", "--json", prefix=NOBODY)
    assert done.returncode == 3
    sentence = "the lab makes network namespaces, which only root may do"
    assert done.stderr == f"hybrid-lab: {sentence}\n"
    assert json.loads(done.stdout) == {"scenario": "forwarding", "family": 4, "error": sentence}


@pytest.mark.root
@pytest.mark.parametrize("family", [4, 6])
def test_forwarding_gives_what_the_access_has(family: int) -> None:
    done = hybrid_lab("run", "forwarding", "--json", "--family", str(family))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["scenario"], report["family"], report["passed"]) == ("forwarding", family, True)
    goodput = 20 * (1448 if family == 4 else 1428) / 1500
    assert report["download_mbit"] == pytest.approx(goodput, rel=0.05)


@pytest.mark.root
@pytest.mark.usefixtures("interruptible")
def test_interrupted_run_leaves_nothing() -> None:
    with subprocess.Popen(
        [*COMMAND, "run", "forwarding"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr
        while "downloading" not in process.stderr.readline():
            assert process.poll() is None
        mine = [record for record in records() if record.owner == process.pid]
        assert len(mine) == 1
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout, stderr) == (130, "", "hybrid-lab: interrupted\n")
    assert not mine[0].directory.exists()


@pytest.mark.root
def test_shell_is_inside_and_the_lab_goes_with_it() -> None:
    done = hybrid_lab("shell", "hag", "--no-daemons", stdin="ip -brief address; ip netns identify\nexit 7\n")
    assert done.returncode == 0, done.stderr
    assert "198.51.100.65/26 2001:db8:2000:2::1/64" in done.stdout
    name = done.stdout.split()[-1]
    assert name.endswith("-hag")
    assert name not in os.listdir("/run/netns")


@pytest.mark.root
def test_clean_of_nothing() -> None:
    done = hybrid_lab("clean")
    assert done.returncode == 0
