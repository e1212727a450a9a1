# SPDX-License-Identifier: GPL-2.0-or-later
"""A bare Debian in a directory, and commands inside it that leave nothing running.

What takes minutes to download is kept in the cache, /var/cache/hybrid-access unless $HYBRID_CACHE names another one;
`make clean` leaves it alone, and whoever wants it anew removes it.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from lab.errors import LabError, SystemLacksError

CACHE: Final = Path(os.environ.get("HYBRID_CACHE", "/var/cache/hybrid-access"))
MIRROR: Final = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")

_ANSWERS_WITHIN: Final = 30.0  # seconds

# A service that a package starts would run on this machine: no package gets to start one.
_POLICY: Final = "#!/bin/sh\nexit 101\n"

# In namespaces of its own, so that nothing stays behind, neither mounts nor processes, however it ends.
_INSIDE: Final = (
    "mount --make-rprivate / && mount -t proc proc {0}/proc && mount -t tmpfs tmpfs {0}/run "
    "&& exec chroot {0} /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "
    'DEBIAN_FRONTEND=noninteractive "$@"'
)


class Root:
    """The directory ``path`` with a Debian in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *command: str, check: bool = True, timeout: float = 900.0) -> subprocess.CompletedProcess[str]:
        """Runs a command inside to its end, both outputs together. LabError with them if it fails."""
        shell = ["sh", "-c", _INSIDE.format(self.path), "inside", *command]
        unshare = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", *shell]
        try:
            done = subprocess.run(
                unshare,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"'{' '.join(command)}' still runs after {timeout:g} s") from None
        if check and done.returncode:
            raise LabError(f"'{' '.join(command)}' ended with status {done.returncode}:\n{done.stdout[-4000:]}")
        return done

    def update(self) -> None:
        """Has apt know today's packages: those that one from the cache knows may be gone. LabError if it cannot."""
        (self.path / "etc/resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
        self.run("apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any")

    def install(self, *packages: str) -> str:
        """Packages by name or as files of this root; gives what apt said. Recommended ones are not asked for."""
        return self.run("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages).stdout

    def files(self) -> dict[str, str]:
        """Every path in it, with what it is and, of a link, where it leads to; but not what changes by itself."""
        found = {}
        for directory, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                path = Path(directory, name)
                inside = f"/{path.relative_to(self.path)}"
                if not inside.startswith(("/proc/", "/run/", "/var/log/", "/var/cache/", "/var/lib/apt/", "/tmp/")):
                    found[inside] = _kind(path)
        return found


def _kind(path: Path) -> str:
    status = path.lstat()
    what = os.readlink(path) if path.is_symlink() else "directory" if path.is_dir() else "file"
    return f"{what} {status.st_mode:o} {status.st_uid}:{status.st_gid}"


@contextlib.contextmanager
def bare(suite: str) -> Iterator[Root]:
    """A Debian of this suite as debootstrap makes it, at its smallest. Gone afterwards."""
    archive = cached(f"{suite}.tar", suite, lambda path: _bootstrap(suite, path))
    with unpacked(archive) as root:
        yield root


@contextlib.contextmanager
def unpacked(archive: Path) -> Iterator[Root]:
    with workspace() as directory:
        root = Root(directory / "root")
        root.path.mkdir()
        run("tar", "-C", str(root.path), "--numeric-owner", "-xpf", str(archive))
        yield root


def cached(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """A file or directory in the cache, made anew where ``recipe``, all that it is made of, is not as it was."""
    stem, dot, ending = name.partition(".")
    path = CACHE / f"{stem}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}{dot}{ending}"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        make(unfinished)
        unfinished.rename(path)
    finally:
        _remove(unfinished)
    for old in CACHE.glob(f"{stem}-*{dot}{ending}"):
        if old != path:
            _remove(old)
    return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A directory on the disk (/tmp may be in memory), gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="hybrid-", dir="/var/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def out_of_reach(suite: str) -> str:
    """Why nothing of this suite can be downloaded from the mirror now, for people; empty if it can."""
    try:
        with urllib.request.urlopen(f"{MIRROR}/dists/{suite}/InRelease", timeout=_ANSWERS_WITHIN):
            return ""
    except (OSError, ValueError) as error:
        return f"{MIRROR} cannot be reached: {getattr(error, 'reason', error)}"


def run(*command: str) -> None:
    """SystemLacksError if the program is missing, LabError with what it said if it fails."""
    if shutil.which(command[0]) is None:
        raise SystemLacksError(f"the program '{command[0]}' is not installed")
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise LabError(f"'{' '.join(command)}' ended with status {done.returncode}:\n{done.stdout[-4000:]}")


def require(programs: Sequence[str]) -> None:
    """Raises SystemLacksError, naming what is missing."""
    if os.geteuid() != 0:
        raise SystemLacksError("a Debian in a directory can be made by root only")
    for program in programs:
        if shutil.which(program) is None:
            raise SystemLacksError(f"the program '{program}' is not installed")


def _bootstrap(suite: str, archive: Path) -> None:
    with workspace() as directory:
        root = Root(directory / "root")
        run("debootstrap", "--variant=minbase", suite, str(root.path), MIRROR)
        policy = root.path / "usr/sbin/policy-rc.d"
        policy.write_text(_POLICY)
        policy.chmod(0o755)
        run("tar", "-C", str(root.path), "--numeric-owner", "-cpf", str(archive), ".")
