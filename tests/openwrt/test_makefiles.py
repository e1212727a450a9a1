# SPDX-License-Identifier: GPL-2.0-or-later
"""The feed's Makefiles, run by GNU make with stubs in the place of OpenWrt's build system (build.py)."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from common.nft import FEATURES
from common.version import VERSION
from tests.openwrt.build import CHECKOUT, build, size


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that is installed."""
    directory = tmp_path_factory.mktemp("openwrt")
    build("hybrid-access", directory)
    return directory / "root"


def test_what_is_declared(tmp_path: Path) -> None:
    version, depends, conffiles = build("hybrid-access", tmp_path, "-n")[:3]
    assert version == f"hybrid-access version {VERSION}-r1"
    assert conffiles == "hybrid-access conffiles /etc/config/hybridaccess"
    assert depends.startswith("hybrid-access depends @KERNEL_MPTCP +python3-light ")
    modules = {name for feature in FEATURES.values() for name in re.findall(r"kmod-[\w-]+", feature)}
    assert {f"+{name}" for name in modules} <= set(depends.split())


@pytest.mark.full
def test_what_is_installed(root: Path) -> None:
    files = {
        str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_file()
    }
    library = "usr/lib/hybrid-access/"
    assert {name: mode for name, mode in files.items() if not name.startswith(library)} == {
        "etc/config/hybridaccess": 0o600,
        "etc/hotplug.d/iface/90-hybrid-access": 0o644,
        "etc/init.d/hybrid-access": 0o755,
        "etc/uci-defaults/90-hybrid-access": 0o644,
        "usr/bin/hybridctl": 0o755,
        "usr/sbin/hybrid-cpe": 0o755,
        "usr/sbin/hybrid-hag": 0o755,
        "usr/share/nftables.d/chain-pre/input/hybrid-access.nft": 0o644,
    }
    modules = subprocess.run(
        ["git", "ls-files", "common", "cpe", "ctl", "hag", "nftables"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name.removeprefix(library) for name in files if name.startswith(library)} >= {
        name.replace(".py", ".pyc") for name in modules.stdout.split()
    }
    assert [name for name in files if name.endswith(".py")] == []


@pytest.mark.full
def test_it_runs_from_there(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "hybridaccess"
    file.write_text((CHECKOUT / "docs/examples/cpe").read_text())
    script = (root / "usr/bin/hybridctl").read_text()
    (tmp_path / "hybridctl").write_text(script.replace('"/usr/lib', f'"{root}/usr/lib'))
    command = [sys.executable, "-I", tmp_path / "hybridctl", "check", file]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{file}: ok: cpe with links xdsl (primary), lte (secondary)\n"
    rules = "from common import nft; print(nft.rules_directory())"
    code = f"import sys; sys.path.insert(0, '{root}/usr/lib/hybrid-access'); {rules}"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{root}/usr/lib/hybrid-access/nftables\n"


@pytest.mark.full
def test_how_large_it_is(root: Path) -> None:
    """docs/openwrt.md has the figures; routers have 16 MB of flash memory, or more."""
    files, archive = size(root)
    assert files < 2 << 20
    assert archive < 1 << 20


def test_the_library_that_the_feed_lacks(tmp_path: Path) -> None:
    pinned = re.search(r"^uciparse==(.*)$", (CHECKOUT / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert pinned
    declared = build("python-uciparse", tmp_path, "-n")
    assert f"python3-uciparse version {pinned[1]}-r1" in declared
    assert "python3-uciparse depends +python3-light +python3-urllib" in declared
    (sources,) = [line for line in declared if line.startswith("python3-uciparse sources ")]
    assert re.fullmatch(r"python3-uciparse sources uciparse [0-9a-f]{64}", sources)
