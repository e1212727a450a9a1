# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemons as systemd would have them: started with two capabilities and little else, heard of, watched, stopped.

The test plays systemd's part; what systemd does by itself is up to systemd.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from lab.access import Kind
from lab.daemons import Daemon, cpe_daemon, hag_daemon
from lab.record import RUN_LABS
from lab.snapshot import Snapshot, difference, snapshot
from lab.topology import Lab
from tests.common.test_log import fields
from tests.lab.flows import Flows
from tests.running import until

pytestmark = pytest.mark.root

PATIENCE = 10.0  # seconds
NOBODY = 65534
# The last one only because the Python that runs the tests may be in root's home; it writes nothing.
CAPABILITIES = "+net_admin,+net_raw,+dac_read_search"
WORK = {
    "cpe": "bonding connections from lan over xdsl and lte",
    "hag": "bonding connections from xdsl, subflows at ",
}

# As with ProtectKernelTunables=yes and ReadWritePaths=/proc/sys/net.
MOUNTS = """\
mount --bind /proc/sys /proc/sys && mount --bind /proc/sys/net /proc/sys/net && mount -o remount,bind,ro /proc/sys &&
mount --bind {labs} {here}/labs && mount -t tmpfs none /run && mkdir -p {labs} /run/systemd/journal &&
mount --bind {here}/labs {labs} && touch /run/systemd/journal/socket &&
mount --bind {here}/journal /run/systemd/journal/socket && exec "$@"
"""

# As with MemoryDenyWriteExecute=yes, where the kernel knows that itself (PR_SET_MDWE, Linux 6.3), and with standard
# error connected to the journal.
EXECUTE = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)
log = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{log.st_dev}:{log.st_ino}"
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Systemd:
    """Its ears, and the way it starts a daemon."""

    def __init__(self, directory: Path, watchdog: float) -> None:
        self._directory = directory
        self._watchdog = watchdog
        (directory / "labs").mkdir()
        self.notes = self._receiver("notify")
        self.journal = self._receiver("journal")
        self.records: list[dict[str, str]] = []  # that have come to the journal
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.shutdown(socket.SHUT_RD)
        self._thread.join()
        self.notes.close()
        self.journal.close()

    @property
    def starter(self) -> Sequence[str]:
        return (
            "unshare",
            "--mount",
            "sh",
            "-c",
            MOUNTS.format(labs=RUN_LABS, here=self._directory),
            "sh",
            "env",
            f"NOTIFY_SOCKET={self._directory / 'notify'}",
            f"WATCHDOG_USEC={int(self._watchdog * 1e6)}",
            "setpriv",
            f"--reuid={NOBODY}",
            f"--regid={NOBODY}",
            "--clear-groups",
            f"--bounding-set=-all,{CAPABILITIES}",
            f"--inh-caps=-all,{CAPABILITIES}",
            f"--ambient-caps=-all,{CAPABILITIES}",
            "--no-new-privs",
            sys.executable,
            "-c",
            EXECUTE,
        )

    def note(self, wanted: str, within: float = PATIENCE) -> dict[str, str]:
        """The next notification that says something of the kind."""
        deadline = time.monotonic() + within
        while True:
            self.notes.settimeout(max(0.01, deadline - time.monotonic()))
            said = dict(line.split("=", 1) for line in self.notes.recv(4096).decode().split("\n"))
            if wanted in said:
                return said

    def status(self, part: str) -> str:
        """The next status with that in it."""
        while part not in (status := self.note("STATUS")["STATUS"]):
            pass
        return status

    def _listen(self) -> None:
        self.journal.setblocking(True)
        while datagram := self.journal.recv(1 << 16):
            self.records.append(fields(datagram))

    def _receiver(self, name: str) -> socket.socket:
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(str(self._directory / name))
        (self._directory / name).chmod(0o777)
        receiver.setblocking(False)
        return receiver


@pytest.fixture
def lab(lab_obstacle: str) -> Iterator[Lab]:
    """One for each test: a run directory that was given to the service's user is no good for root any more."""
    if lab_obstacle:
        pytest.skip(lab_obstacle)
    with Lab(Kind.DIRECT) as lab:
        yield lab


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    with Systemd(tmp_path, watchdog=0.9) as systemd:
        yield systemd


def make(lab: Lab, role: str, systemd: Systemd) -> Daemon:
    """Not started, with files that the service's user may use."""
    daemon = cpe_daemon(lab) if role == "cpe" else hag_daemon(lab)
    daemon.starter = systemd.starter
    for directory in (daemon.node.directory, daemon.node.directory.parent):
        directory.chmod(0o755)
    os.chown(daemon.run_dir, NOBODY, NOBODY)
    return daemon


def look(daemon: Daemon) -> Snapshot:
    return snapshot(daemon.node, daemon.run_dir)


@pytest.mark.parametrize("role", ["cpe", pytest.param("hag", marks=pytest.mark.full)])
def test_from_ready_to_stopped(lab: Lab, systemd: Systemd, role: str) -> None:
    """With another user than root, two capabilities, the kernel's other settings read-only."""
    daemon = make(lab, role, systemd)
    before = look(daemon)
    other = hag_daemon(lab) if role == "cpe" else cpe_daemon(lab)
    other.start()
    daemon.start()
    ready = systemd.note("READY")
    assert ready["STATUS"].startswith(WORK[role])
    assert ready["STATUS"].endswith("; 0 connections now")
    beats = [systemd.note("WATCHDOG") and time.monotonic() for _ in range(2)]
    assert beats[1] - beats[0] < 2.0
    assert daemon.control("log", level="debug") == {"level": "debug"}
    with Flows(lab) as flows:
        assert flows.open(6).bonded_by(daemon)
        systemd.status("; 1 connection now")
    (opened,) = (record for record in systemd.records if record.get("HYBRID_REASON") == "opened: bonded")
    assert opened["HYBRID_FLOW"].endswith(f" to {lab.server.address('core', 6)} port 7")
    assert opened["PRIORITY"] == "7"
    daemon.configure("config nonsense\n")
    assert daemon.control("reload")["errors"]
    reloading, again = systemd.note("RELOADING"), systemd.note("READY")
    assert int(reloading["MONOTONIC_USEC"]) <= time.monotonic() * 1e6
    assert (reloading["WATCHDOG_USEC"], again["WATCHDOG_USEC"]) == ("30000000", "900000")
    trouble = again["STATUS"]
    assert trouble.startswith(WORK[role])
    assert f"the configuration file is not in force: {daemon.config_file}:1: " in trouble
    os.kill(daemon.status()["workers"][0]["pid"], signal.SIGKILL)
    until(lambda: any("has died" in record["MESSAGE"] for record in systemd.records), "it is logged")
    check_fields(role, systemd.records)
    assert daemon.stop() == 0
    assert systemd.note("STOPPING")["STATUS"].startswith("stopping")
    assert other.stop() == 0
    assert difference(before, look(daemon)) == []


def check_fields(role: str, records: list[dict[str, str]]) -> None:
    (died,) = (record for record in records if "has died" in record["MESSAGE"])
    assert died["SYSLOG_IDENTIFIER"] == f"hybrid-{role}"
    assert died["PRIORITY"] == "3"
    assert died["HYBRID_WORKER"] == "0"
    assert died["HYBRID_REASON"] == "killed by SIGKILL"


@pytest.mark.full
def test_control_that_hangs_gives_no_sign_of_life(lab: Lab, systemd: Systemd) -> None:
    """systemd ends it with SIGABRT and SIGCONT then. Meanwhile what is open goes on, and what is new works."""
    hag, cpe = hag_daemon(lab), make(lab, "cpe", systemd)
    before = look(cpe)
    hag.start()
    cpe.start()
    with Flows(lab) as flows:
        old = flows.open(6)
        assert old.bonded_by(cpe)
        cpe.process.signal(signal.SIGSTOP)
        with contextlib.suppress(BlockingIOError):
            while systemd.notes.recv(4096):
                continue
        with pytest.raises(TimeoutError):
            systemd.note("WATCHDOG", within=3.0)
        flows.open(4).exchange()
        cpe.process.signal(signal.SIGABRT)
        assert cpe.kill(signal.SIGCONT) == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in cpe.log
        flows.open(4).exchange()
        cpe.start()
        assert flows.open(4).bonded_by(cpe)
        old.exchange()
    assert (cpe.stop(), hag.stop()) == (0, 0)
    assert difference(before, look(cpe)) == []
