# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs in a Python that has what the package's dependencies bring, and nothing else."""

import os
import pkgutil
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import common
import cpe
import ctl
import hag
from lab.access import Kind
from lab.daemons import cpe_daemon, hag_daemon
from lab.topology import Lab
from tests.lab.flows import FAMILIES, Flows
from tests.openwrt.stdlib import SPLIT

CHECKOUT = Path(__file__).parents[2]
MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (common, cpe, ctl, hag)
    for module in pkgutil.iter_modules(package.__path__)
    if module.name != "__main__"
]
UNTIL_3_12 = {"python3-urllib"}  # by pathlib


def declared(package: str) -> set[str]:
    """The Python packages that the package's Makefile depends on."""
    text = (CHECKOUT / "openwrt" / package / "Makefile").read_text()
    found = re.search(r"^  DEPENDS:=((?:.*\\\n)*.*)", text, re.MULTILINE)
    assert found
    return set(re.findall(r"\+(python3-\w+)", found[1]))


def libraries() -> str:
    """Where uciparse is."""
    spec = find_spec("uciparse")
    assert spec
    assert spec.origin
    return str(Path(spec.origin).parents[1])


def imports(packages: set[str], modules: list[str]) -> str:
    """What goes wrong, in the last line; empty if nothing does."""
    code = f"from tests.openwrt.stdlib import confine; confine({packages}); import {', '.join(modules)}"
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{libraries()}"}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("\n")[2]


def test_only_packages_that_there_are() -> None:
    assert declared("hybrid-access") <= {*SPLIT, "python3-light", "python3-uciparse"}
    assert declared("python-uciparse") <= {*SPLIT, "python3-light"}


def test_nothing_else_is_needed() -> None:
    assert imports(declared("hybrid-access"), MODULES) == ""
    assert imports(declared("python-uciparse"), ["uciparse.uci"]) == ""


@pytest.mark.full
@pytest.mark.parametrize("package", sorted(declared("hybrid-access") & SPLIT.keys()))
def test_each_is_needed(package: str) -> None:
    if package in UNTIL_3_12 and sys.version_info >= (3, 13):
        pytest.skip("not by this Python")
    assert imports(declared("hybrid-access") - {package}, MODULES).startswith("ModuleNotFoundError: No module named ")


# What Python runs first where this is on its path.
SITECUSTOMIZE = """\
import sys
from tests.openwrt.stdlib import confine
confine({packages!r})
open({record!r}, "a").write(f"{{sys.orig_argv[2]}}\\n")
"""


@pytest.mark.full
@pytest.mark.root
def test_both_daemons_carry_connections_in_it(tmp_path: Path) -> None:
    record = tmp_path / "record"
    text = SITECUSTOMIZE.format(packages=declared("hybrid-access"), record=str(record))
    (tmp_path / "sitecustomize.py").write_text(text)
    with Lab(Kind.DIRECT) as lab:
        daemons = [cpe_daemon(lab), hag_daemon(lab)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(tmp_path))
            for daemon in daemons:
                daemon.start()
        assert record.read_text().split() == ["cpe", "hag"]
        with Flows(lab) as flows:
            for family in FAMILIES:
                flow = flows.open(family)
                flow.exchange(1 << 20)
                assert all(flow.bonded_by(daemon) for daemon in daemons)
        assert [daemon.stop() for daemon in daemons] == [0, 0]
