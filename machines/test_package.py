# SPDX-License-Identifier: GPL-2.0-or-later
"""The package on a bare Debian: installed, upgraded, removed and purged, it leaves nothing behind (`make deb-test`)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from machines.root import Root, bare, require, run, workspace

OURS = re.compile(r"hybrid[-_]?(access|cpe|hag|ctl)")


@pytest.fixture(scope="module")
def package(pytestconfig: pytest.Config) -> Path:
    """The newest one that `make deb` has built."""
    built = [*(pytestconfig.rootpath / "build").glob("hybrid-access_*_amd64.deb")]
    assert built, "no package in build/: make deb"
    return max(built, key=lambda it: it.stat().st_mtime)


@pytest.fixture(scope="module")
def next_version(package: Path) -> Iterator[Path]:
    """The same with a higher version, one file less and one more."""
    with workspace() as directory:
        tree = directory / "tree"
        run("dpkg-deb", "-R", str(package), str(tree))
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:"))
        examples = tree / "usr/share/doc/hybrid-access/examples"
        (examples / "hag").rename(examples / "gateway")
        run("dpkg-deb", "--root-owner-group", "-b", str(tree), str(directory / "next.deb"))
        yield directory / "next.deb"


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def root(request: pytest.FixtureRequest, package: Path, next_version: Path) -> Iterator[Root]:
    require(["debootstrap", "dpkg-deb", "unshare"])
    with bare(request.param) as root:
        (root.path / "root/this.deb").write_bytes(package.read_bytes())
        (root.path / "root/next.deb").write_bytes(next_version.read_bytes())
        root.update()
        yield root


def ours(root: Root) -> list[str]:
    """Paths with our names, but those where the archives were put and what dpkg remembers."""
    return [path for path in root.files() if OURS.search(path) and not path.startswith(("/root/", "/var/lib/dpkg/"))]


def test_from_nothing_to_nothing(root: Root) -> None:
    """On a bare system, where apt brings what is needed; then again, where all of that is there already."""
    assert ours(root) == []
    root.install("/root/this.deb")
    check_installed(root)
    root.run("apt-get", "purge", "-y", "-q", "hybrid-access")
    assert ours(root) == []

    before = root.files()
    said = root.install("/root/this.deb")
    assert "1 newly installed" in said
    check_installed(root)
    installed = root.files()

    configuration = root.path / "etc/config/hybridaccess"
    configuration.write_bytes((root.path / "usr/share/doc/hybrid-access/examples/hag").read_bytes())
    root.install("/root/next.deb")
    check_installed(root)
    assert configuration.exists()
    changed = {path for path, _ in installed.items() ^ root.files().items()}
    examples = "/usr/share/doc/hybrid-access/examples"
    assert {path for path in changed if "/dpkg/" not in path} == {
        f"{examples}/hag",
        f"{examples}/gateway",
        "/etc/config/hybridaccess",
    }

    said = root.run("apt-get", "remove", "-y", "-q", "hybrid-access").stdout
    assert "warning" not in said
    assert configuration.exists()
    left = [path for path in ours(root) if not path.startswith("/var/lib/systemd/deb-systemd-helper-")]
    assert left == ["/etc/config/hybridaccess"]
    said = root.run("apt-get", "purge", "-y", "-q", "hybrid-access").stdout
    assert "warning" not in said
    after = root.files()
    assert {path: what for path, what in before.items() ^ after.items() if "/dpkg/" not in path} == {}


def check_installed(root: Root) -> None:
    """The commands work, the examples are right, and neither service is to be started at the next boot."""
    for command in ("hybrid-cpe", "hybrid-hag", "hybridctl"):
        version = root.run("dpkg-query", "-W", "-f", "${Version}", "hybrid-access").stdout.removeprefix("1:")
        assert root.run(command, "--version").stdout == f"{command} {version}\n"
    examples = root.path / "usr/share/doc/hybrid-access/examples"
    for example in examples.iterdir():
        done = root.run("hybridctl", "check", "--json", f"/{example.relative_to(root.path)}")
        assert json.loads(done.stdout) == {"ok": True, "errors": []}
    wanted = root.path / "etc/systemd/system"
    assert [path for path in wanted.rglob("hybrid-*")] == []
    # compiled once, not at each start
    assert list((root.path / "usr/lib/hybrid-access/common/__pycache__").glob("gate.*.pyc"))
    root.run("dpkg", "--verify", "hybrid-access")
