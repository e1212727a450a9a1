# SPDX-License-Identifier: GPL-2.0-or-later
"""hybrid-cpe or hybrid-hag as systemd runs it, from the package, in a node of the lab."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from ctl.inquiry import Unreachable, ask
from lab.daemons import CPE_OPTIONS, HAG_OPTIONS, link_section, section
from lab.node import Node
from lab.patience import PATIENCE
from lab.topology import Lab

CONFIGURATION: Final = Path("/etc/config/hybridaccess")
RUN_DIR: Final = Path("/run/hybrid-access")
DROP_INS: Final = Path("/run/systemd/system")
WORKERS: Final = {"cpe": 1, "hag": len(os.sched_getaffinity(0))}  # that a daemon has unless configured

_POLL: Final = 0.5  # seconds: each look is a program that starts on an emulated processor


class Service:
    """The unit of a role."""

    def __init__(self, role: str, node: Node) -> None:
        self.role = role
        self.node = node
        self.unit = f"hybrid-{role}.service"

    def systemctl(self, verb: str, *more: str, check: bool = True) -> str:
        """Standard output; of what fails, unless `check` is off, the journal is what the error shows."""
        done = run("systemctl", verb, self.unit, *more)
        assert not check or done.returncode == 0, f"{verb} {self.unit}: {done.stderr}\n{self.journal()}"
        return done.stdout.strip()

    def show(self, *names: str) -> dict[str, str]:
        """Properties by name."""
        lines = self.systemctl("show", f"--property={','.join(names)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def active(self) -> str:
        return self.show("ActiveState")["ActiveState"]

    def told(self) -> str:
        """What it has told systemd of itself."""
        return self.show("StatusText")["StatusText"]

    @property
    def pid(self) -> int:
        pid = int(self.show("MainPID")["MainPID"])
        assert pid, f"{self.unit} does not run\n{self.journal()}"
        return pid

    def status(self) -> dict[str, Any]:
        """As hybridctl would show it, once all workers answer in time: one that does not, with its counters, is missing
        there."""
        answer: dict[str, Any] = {}

        def complete() -> bool:
            nonlocal answer
            try:
                answer = ask(self.role, RUN_DIR, "status", PATIENCE)
            except Unreachable:
                return False
            return len(answer["workers"]) == WORKERS[self.role]

        until(complete)
        return answer

    def answers(self) -> bool:
        try:
            return bool(ask(self.role, RUN_DIR, "status", PATIENCE))
        except Unreachable:
            return False

    def bonded(self) -> int:
        return int(self.status()["counters"].get("opened: bonded", 0))

    def workers(self) -> list[int]:
        return [worker["pid"] for worker in self.status()["workers"]]

    def records(self) -> list[dict[str, Any]]:
        """What the journal has of it since the machine was booted, with all fields."""
        return [json.loads(line) for line in self._journalctl("--output=json").splitlines()]

    def asked(self) -> str:
        """What `hybridctl status` says, to people."""
        done = run("hybridctl", "status", "--role", self.role)
        return done.stdout + done.stderr

    def kill(self) -> None:
        """The daemon and its workers at one blow."""
        self.systemctl("kill", "--signal=KILL")

    def journal(self, since: str = "") -> str:
        """What it has logged since a `place`, or its last words."""
        return self._journalctl("--no-pager", f"--after-cursor={since}" if since else "--lines=40")

    def place(self) -> str:
        """Where the journal ends now."""
        *_, last = self._journalctl("--lines=1", "--show-cursor").splitlines()
        return last.removeprefix("-- cursor: ")

    def _journalctl(self, *options: str) -> str:
        run("journalctl", "--sync")  # what was said is in it a moment later otherwise
        return run("journalctl", "--quiet", f"--unit={self.unit}", *options).stdout


@contextlib.contextmanager
def configured(lab: Lab) -> Iterator[dict[str, Service]]:
    """Both units, each to run in its node. One file configures both roles."""
    services = {"hag": Service("hag", lab.hag), "cpe": Service("cpe", lab.cpe)}
    links = [link_section(access, role) for access, role in zip(lab.accesses, ("primary", "secondary"), strict=True)]
    cpe = section("cpe", "cpe", {**CPE_OPTIONS, "join_after": 0})
    CONFIGURATION.write_text("\n".join([cpe, *links, section("hag", "hag", HAG_OPTIONS)]))
    for service in services.values():
        drop_in = DROP_INS / f"{service.unit}.d/lab.conf"
        drop_in.parent.mkdir(parents=True)
        # systemd's patience is for machines that are not emulated; its watchdog is as it is
        drop_in.write_text(
            f"[Service]\nNetworkNamespacePath={service.node.path}\nTimeoutStartSec=300\nTimeoutStopSec=300\n"
        )
    run("systemctl", "daemon-reload")
    try:
        yield services
    finally:
        for service in services.values():
            service.systemctl("stop", check=False)
            service.systemctl("reset-failed", check=False)
            (DROP_INS / f"{service.unit}.d/lab.conf").unlink()
            (DROP_INS / f"{service.unit}.d").rmdir()
        run("systemctl", "daemon-reload")
        CONFIGURATION.unlink(missing_ok=True)  # a purge takes it along


@contextlib.contextmanager
def drop_in(service: Service, text: str) -> Iterator[None]:
    """The unit with more in it."""
    file = DROP_INS / f"{service.unit}.d/more.conf"
    file.write_text(text)
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        file.unlink()
        run("systemctl", "daemon-reload")


@contextlib.contextmanager
def other_configuration(old: str, new: str) -> Iterator[None]:
    """The configuration with that in place of this; afterwards as it was."""
    right = CONFIGURATION.read_text()
    assert old in right
    CONFIGURATION.write_text(right.replace(old, new))
    try:
        yield
    finally:
        CONFIGURATION.write_text(right)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def until(true: Callable[[], bool], patience: float = PATIENCE, poll: float = _POLL) -> float:
    """Waits until it is so, and gives the seconds that it took; AssertionError if it takes longer."""
    start = time.monotonic()
    while not true():
        waited = time.monotonic() - start
        assert waited < patience, f"not so after {waited:.0f} s"
        time.sleep(poll)
    return time.monotonic() - start
