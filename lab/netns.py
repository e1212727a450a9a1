# SPDX-License-Identifier: GPL-2.0-or-later
"""A network namespace with a name, as `ip netns` makes them.

Processes are put inside with setns(2) alone and keep the machine's file systems: /proc/net and /proc/sys/net
show the namespace, /sys/class/net shows the machine. (`ip netns exec` would mount a fresh /sys, and its copy
of all mounts would keep alive the namespaces of other labs that have since been deleted.)
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lab.errors import LabError, SystemLacksError
from lab.patience import PATIENCE
from lab.process import POLL, Process

RUN_NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # linux/sched.h

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """One namespace: `create` it, do things inside, `delete` it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._processes: list[Process] = []

    @property
    def path(self) -> Path:
        return RUN_NETNS / self.name

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def create(self) -> None:
        """Creates it, with lo up."""
        _execute(["ip", "netns", "add", self.name])
        self.configure(["link set lo up"])

    def delete(self) -> None:
        """Stops what was started in it, kills what else runs in it, removes it. Nothing if it is gone."""
        self.stop_processes()
        if not self.exists:
            return
        self._kill_rest()
        _execute(["ip", "netns", "delete", self.name])

    def stop_processes(self) -> None:
        """Stops what was started in it and still runs, the latest first."""
        for process in reversed(self._processes):
            process.close()
        self._processes.clear()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside: sockets it opens and processes it starts belong here, for good."""
        # thread-self: another thread may be in another namespace at the same time
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.path)
            try:
                yield
            finally:
                _setns(Path(f"/proc/self/fd/{before}"))
        finally:
            os.close(before)

    def run(
        self,
        command: Sequence[str],
        *,
        text: str = "",
        timeout: float = 60.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Runs `command` inside to its end, with `text` on its standard input; the result holds both outputs.

        LabError if it ends with a status other than 0 (unless `check` is off) or lasts longer than `timeout`
        seconds.
        """
        with self.entered():
            return _execute(command, text=text, timeout=timeout, check=check)

    def start(
        self,
        command: Sequence[str],
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        name: str = "",
    ) -> Process:
        """Starts `command` inside in the background; `delete` stops it."""
        with self.entered():
            process = Process(command, log=log, environment=environment, name=name)
        self._processes.append(process)
        return process

    def configure(self, lines: Iterable[str]) -> None:
        """Runs lines of `ip` (without the word ip) as one batch: quick, and the first wrong line ends it."""
        self.run(["ip", "-batch", "-"], text="".join(f"{line}\n" for line in lines))

    def sysctl(self, settings: Mapping[str, str | int]) -> None:
        """Writes settings given by their path below /proc/sys/net, such as {"ipv4/ip_forward": 1}."""
        with self.entered():
            for name, value in settings.items():
                Path("/proc/sys/net", name).write_text(f"{value}\n")

    def pids(self) -> list[int]:
        """The processes that are inside now, whoever started them."""
        wanted = self.path.stat()
        return [pid for pid in _all_pids() if _is_inside(pid, wanted)]

    def _kill_rest(self) -> None:
        """Kills until nobody is inside: a process may start others while we look."""
        deadline = time.monotonic() + PATIENCE / 2
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise LabError(f"processes {pids} in namespace {self.name} do not die")
            time.sleep(POLL)


def _setns(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise LabError(f"cannot enter the network namespace {path}: {os.strerror(error)}")
    finally:
        os.close(descriptor)


def _execute(
    command: Sequence[str], *, text: str = "", timeout: float = 60.0, check: bool = True
) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        raise SystemLacksError(f"the program '{command[0]}' is not installed")
    try:
        done = subprocess.run(
            command,
            input=text,
            timeout=timeout,
            capture_output=True,
            text=True,
            start_new_session=True,  # a ^C at the terminal is for the lab alone
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"'{' '.join(command)}' still runs after {timeout:g} s") from None
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"'{' '.join(command)}' ended with status {done.returncode}: {said}")
    return done


def _all_pids() -> list[int]:
    """All processes but ours, which only visits namespaces."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())]


def _is_inside(pid: int, namespace: os.stat_result) -> bool:
    try:
        seen = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return False
    return os.path.samestat(seen, namespace)
