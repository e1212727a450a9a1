# SPDX-License-Identifier: GPL-2.0-or-later
"""The two daemons under test, configured, started and asked as a user would, from the checkout in use."""

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lab.access import Access, Kind
from lab.errors import LabError
from lab.node import Node
from lab.patience import PATIENCE
from lab.process import Process, python_path
from lab.topology import Lab, Mark

Options = Mapping[str, str | int | Sequence[str]]

NONE: Options = MappingProxyType({})
# Whoever stops a daemon here wants to see what becomes of its connections then, and not wait. Who looks at both links
# mostly wants to see them both, however little they carry.
CPE_OPTIONS: Options = {"lan": ["lan"], "steering": "always", "drain": 0}
OVERFLOW: Options = MappingProxyType({"steering": "overflow"})  # the default of users
SUBSCRIBERS = ("198.51.100.0/26", "2001:db8:1000::/36")
HAG_OPTIONS: Options = {
    "access": ["xdsl"],
    "join_device": "lte",
    "join_port": 9001,
    "subscriber": SUBSCRIBERS,
    "drain": 0,
}


class Daemon:
    """hybrid-cpe or hybrid-hag on its node. Its files are in the node's directory and vanish with the lab."""

    def __init__(self, role: str, node: Node, configuration: str, *, log_level: str = "info") -> None:
        """`role` is 'cpe' or 'hag', `configuration` the text of its UCI file. `start` starts it."""
        self.role = role
        self.node = node
        self.run_dir = node.directory / "run"
        self.config_file = node.directory / "hybridaccess"
        self.log_file = node.directory / f"hybrid-{role}.log"
        self.log_level = log_level
        self.starter: Sequence[str] = ()  # the command that starts it, such as prlimit with its options
        self._process: Process | None = None
        self.run_dir.mkdir(exist_ok=True)
        self.configure(configuration)

    @property
    def name(self) -> str:
        return f"hybrid-{self.role}"

    @property
    def socket_path(self) -> str:
        return str(self.run_dir / f"{self.role}.sock")

    @property
    def process(self) -> Process:
        """The latest one started; LabError before the first start."""
        if self._process is None:
            raise LabError(f"{self.name} was not started")
        return self._process

    @property
    def log(self) -> str:
        """What it has logged since the lab was built, over all its lives."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def configure(self, configuration: str) -> None:
        """Writes its configuration file, which it reads at its next start."""
        self.config_file.write_text(configuration)

    def start(self, timeout: float = PATIENCE) -> None:
        """Starts it and returns when it answers. LabError with its log if it ends or is late."""
        command = [*self.starter, sys.executable, "-m", self.role, "--config", str(self.config_file)]
        command += ["--run-dir", str(self.run_dir), "--log-level", self.log_level]
        self._process = self.node.start(command, log=self.log_file, environment=python_path(), name=self.name)
        self._process.wait_until(self.answers, timeout)

    def stop(self, timeout: float = PATIENCE) -> int:
        """Asks it to stop, with SIGTERM, and gives its exit status. LabError if it does not stop in time."""
        self.process.signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Ends the process itself, not its workers, with a signal; gives the exit status."""
        self.process.signal(number)
        return self.process.wait(PATIENCE)

    def kill_all(self) -> None:
        """Kills it and its workers at one blow, with SIGKILL, and returns when they are dead."""
        pids = [worker["pid"] for worker in self.status()["workers"]]
        workers = [os.pidfd_open(pid) for pid in pids]
        self.process.signal(signal.SIGKILL)
        for worker in workers:
            signal.pidfd_send_signal(worker, signal.SIGKILL)
        self.process.wait(PATIENCE)
        for worker in workers:
            select.select([worker], [], [], PATIENCE)  # readable once it has ended
            os.close(worker)

    def restart(self) -> None:
        """Stops it if it runs, and starts it."""
        if self.process.alive:
            self.stop()
        self.start()

    def answers(self) -> bool:
        """Whether it answers on its control socket."""
        try:
            self.control("status", timeout=1.0)
        except OSError:
            return False
        return True

    def status(self) -> dict[str, Any]:
        """What `hybridctl status` would show."""
        return self.control("status")

    def uses(self) -> list[Mark]:
        """What it has said of what links are used for, and why (`hybridctl events`)."""
        ahead = time.time() - time.monotonic()
        events: Any = self.control("events")
        return [(event["time"] - ahead, event["what"]) for event in events if "use" in event]

    def control(self, command: str, *, timeout: float = PATIENCE, **arguments: Any) -> dict[str, Any]:
        """Sends one command, gives its result. OSError if nobody answers, LabError if the answer is no."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(self.socket_path)
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with connection.makefile() as lines:
                line = lines.readline()
        if not line:
            raise ConnectionResetError(f"{self.name} hung up")
        answer = json.loads(line)
        if not answer["ok"]:
            raise LabError(f"{self.name} refused '{command}': {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result


def cpe_daemon(
    lab: Lab, options: Options = NONE, *, links: Sequence[Access] = (), more: str = "", log_level: str = "info"
) -> Daemon:
    """The CPE's daemon, not started, with these links (both accesses if none is named), the first one primary.

    `options` are added to section 'cpe', `more` is UCI text for the end.
    """
    roles = ("primary", *("secondary" for _ in lab.accesses))
    sections = [link_section(access, role) for access, role in zip(links or lab.accesses, roles, strict=False)]
    text = "\n".join([section("cpe", "cpe", {**CPE_OPTIONS, **options}), *sections, more])
    return Daemon("cpe", lab.cpe, text, log_level=log_level)


def hag_daemon(lab: Lab, options: Options = NONE, *, more: str = "", log_level: str = "info") -> Daemon:
    """The HAG's daemon, not started. `options` are added to section 'hag', `more` is UCI text for the end."""
    text = "\n".join([section("hag", "hag", {**HAG_OPTIONS, **options}), more])
    return Daemon("hag", lab.hag, text, log_level=log_level)


def start_daemons(lab: Lab) -> tuple[Daemon, Daemon]:
    """Both daemons as configured by default, started and ready: (CPE's, HAG's)."""
    cpe, hag = cpe_daemon(lab, OVERFLOW), hag_daemon(lab)
    hag.start()
    cpe.start()
    return cpe, hag


def link_section(access: Access, role: str) -> str:
    """Section 'link' of one access; a direct access has no rates that one could tell."""
    options: dict[str, str] = {"device": access.name, "role": role}
    if access.kind is Kind.EMULATED:
        down, up = access.profile.rate_down, access.profile.rate_up
        options |= {"rate_down": f"{down / 1000:.0f}kbit", "rate_up": f"{up / 1000:.0f}kbit"}
    return section("link", access.name, options)


def section(type_: str, name: str, options: Options) -> str:
    """One section of UCI text; an option with several values is a list there."""
    lines = [f"config {type_} '{name}'"]
    for option, value in options.items():
        if isinstance(value, str | int):
            lines.append(f"\toption {option} '{value}'")
        else:
            lines += [f"\tlist {option} '{one}'" for one in value]
    return "\n".join(lines) + "\n"
