# SPDX-License-Identifier: GPL-2.0-or-later
"""What both daemons do alike around their work: command line, configuration, one instance, exit status."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import fcntl
import os
import platform
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, Generic, NoReturn, TypeVar

from common import config, inventory, memory
from common import log as logging
from common.config import Config, ConfigError, ConfigErrors, CpeConfig, HagConfig
from common.control import ControlSocket, Refused, Reply
from common.events import Events
from common.log import log
from common.loop import Loop
from common.supervisor import Supervisor
from common.system import AlreadyRuns, SystemLacks, Unavailable, lack
from common.version import VERSION

CONFIG: Final = Path("/etc/config/hybridaccess")
# Not every router has /run; one that is made there would be in its flash memory, and outlive a boot.
RUN_DIR: Final = Path("/run/hybrid-access" if Path("/run").is_dir() else "/var/run/hybrid-access")

_AGAIN: Final = 3.0  # seconds until what was missing is looked for again
_TICK: Final = 1.0  # seconds between signs of life meanwhile
_START: Final = 60.0  # seconds that a start may take, the first or a later one; the units' TimeoutStartSec


class Exit(IntEnum):
    """Exit status by class, with the numbers of sysexits(3); a service need not try again after 64, 71 and 78."""

    OK = 0
    USAGE = 64
    UNAVAILABLE = 69  # something is not there, or taken, for now
    FAILED = 70
    SYSTEM = 71  # a privilege, a feature of the kernel or a program is missing
    CONFIG = 78


class Failed(Exception):
    """The daemon cannot go on; the text says why."""


RoleConfig = TypeVar("RoleConfig", CpeConfig, HagConfig)


@dataclass(frozen=True, slots=True)
class Invocation(Generic[RoleConfig]):
    """How the daemon was called, and by whom."""

    role: str
    read: Callable[[], tuple[RoleConfig, str]]  # the configuration, and its text; raises ConfigErrors
    run_dir: Path
    supervisor: Supervisor
    events: Events

    def file(self, suffix: str) -> Path:
        """A file of this daemon in the run directory."""
        return self.run_dir / f"{self.role}.{suffix}"


def main(
    role: str,
    summary: str,
    pick: Callable[[Config], RoleConfig | None],
    run: Callable[[RoleConfig, Invocation[RoleConfig]], None],
    clean: Callable[[RoleConfig | None, Invocation[RoleConfig]], object],
    arguments: Sequence[str] | None,
) -> int:
    """Parses the command line, loads the configuration and runs the daemon; returns the exit status.

    ``clean`` takes out what another one has left, with the configuration if there is any.
    """
    options = command_line(role, summary).parse_args(arguments)
    events = Events(role)
    logging.start(f"hybrid-{role}", options.log_level or "info", options.log_to, besides=[events])
    with contextlib.suppress(RuntimeError):  # without standard error
        faulthandler.enable()  # SIGABRT, by which whatever hangs is ended, then shows where

    def read() -> tuple[RoleConfig, str]:
        text = config.read(options.config)
        found = pick(config.parse(text, str(options.config)))
        if found is None:
            absent = f"no 'config {role}' section: this box is not configured as {role.upper()}"
            raise ConfigErrors([ConfigError(str(options.config), 0, absent)])
        return found, text

    invocation = Invocation(role, read, options.run_dir, Supervisor(os.environ), events)
    if options.clean:
        return _clean(clean, invocation)
    log.info("version %s on Linux %s; the log goes to %s", VERSION, platform.release(), logging.sink())
    reason = ""
    while True:
        try:
            configured, _ = read()
            if options.log_level is None:
                logging.set_level(configured.log_level.value)
            if not reason:
                _tell_what_is_missing()
            run(configured, invocation)
        except Exception as error:
            # Who waits reads the file again and again, also while somebody writes it.
            passes = isinstance(error, Unavailable) or (bool(reason) and isinstance(error, ConfigErrors))
            if not (options.wait and passes):
                return _failed(invocation, error)
            told = "; ".join(why(error)[1])
            if told != reason:
                reason = told
                log.warning("waiting, connections pass unbonded: %s", reason)
            if _wait(invocation, reason):
                continue
        return Exit.OK


def _clean(
    clean: Callable[[RoleConfig | None, Invocation[RoleConfig]], object], invocation: Invocation[RoleConfig]
) -> Exit:
    """One that has stopped by itself has left neither of the files."""
    if not any(invocation.file(name).exists() for name in ("settings", "workers")):
        return Exit.OK
    try:
        with only_instance(invocation):
            try:
                config, _ = invocation.read()
            except ConfigErrors:
                config = None
            clean(config, invocation)
    except AlreadyRuns:  # and has replaced what there was
        return Exit.OK
    except Exception as error:
        status, sentences = why(error)
        for sentence in sentences:
            log.error("not everything that was left is taken out: %s", sentence)
        if status is None:
            log.exception("this should not have happened")
        return Exit.FAILED if status is None else status
    return Exit.OK


def _tell_what_is_missing() -> None:
    for finding in inventory.at_hand():
        if not finding.found:
            log.info("without %s: %s", finding.what, finding.text)


def _failed(invocation: Invocation[Any], error: Exception) -> Exit:
    """Says why, also to those who ask later; returns the exit status."""
    status, sentences = why(error)
    for sentence in sentences:
        log.error("%s", sentence)
    if status is None:
        log.exception("this should not have happened")
    told = "; ".join(sentences) or f"failed: {error}"
    invocation.supervisor.status(told)
    if not isinstance(error, AlreadyRuns):
        with contextlib.suppress(OSError):
            memory.write(invocation.file("failure"), told)
    return Exit.FAILED if status is None else status


def _wait(invocation: Invocation[Any], reason: str) -> bool:
    """Tells everybody who asks why there is no daemon; returns in a while, False if it is to end instead."""
    told_to_end = False

    def end() -> None:
        nonlocal told_to_end
        told_to_end = True
        loop.stop()

    def refuse(_request: object, _reply: object) -> None:
        raise Refused(f"it is waiting: {reason}")

    def try_again(_request: object, reply: Reply) -> None:
        """At once. What is wrong with the file is told now, what else is missing by the status later."""
        errors: list[str] = []
        try:
            invocation.read()
        except ConfigErrors as error:
            errors = why(error)[1]
        reply({"changed": [], "errors": errors, "waiting": reason})
        loop.stop()

    def tick() -> None:
        invocation.supervisor.alive()
        loop.call_later(_TICK, tick)

    with ExitStack() as undo:
        loop = Loop()
        undo.callback(loop.close)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.on_signal(number, end)
        loop.on_signal(signal.SIGHUP, loop.stop)
        with contextlib.suppress(SystemLacks):  # where another daemon has the socket it answers
            undo.enter_context(only_instance(invocation))
            commands = {
                **dict.fromkeys(("status", "flows", "log"), refuse),
                "reload": try_again,
                "events": invocation.events.command,
            }
            undo.callback(ControlSocket(loop, invocation.file("sock"), commands).close)
        invocation.supervisor.ready(f"waiting, connections pass unbonded: {reason}")
        tick()
        loop.call_later(_AGAIN, loop.stop)
        loop.run()
    if not told_to_end:
        invocation.supervisor.busy(_START)
    return not told_to_end


def why(error: Exception) -> tuple[Exit | None, list[str]]:
    """The class of what has ended the daemon, and what there is to say; no class for a fault of the program."""
    match error:
        case ConfigErrors():
            return Exit.CONFIG, [str(one) for one in error.errors]
        case Unavailable():
            return Exit.UNAVAILABLE, [str(error)]
        case SystemLacks():
            return Exit.SYSTEM, [str(error)]
        case Failed():
            return Exit.FAILED, [str(error)]
    return None, []


def stop_on_signals(loop: Loop) -> None:
    """Until there is a service. What SIGHUP asks for is done by the start anyway."""
    loop.on_signal(signal.SIGHUP, lambda: None)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.on_signal(number, loop.stop)


@contextmanager
def only_instance(invocation: Invocation[Any]) -> Iterator[None]:
    """Raises SystemLacks if a daemon runs already with this run directory, or at all in this network namespace."""
    role, run_dir, file = invocation.role, invocation.run_dir, invocation.file("pid")
    try:
        run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Who may write there could plant links to files that are ours to write, and the numbers of processes to end.
        found = run_dir.stat()
        if found.st_uid not in (0, os.geteuid()):
            raise SystemLacks(f"the run directory {run_dir} is another user's (--run-dir names another)")
        if found.st_mode & stat.S_IWOTH:
            raise SystemLacks(f"anybody may write to the run directory {run_dir} (--run-dir names another)")
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise lack(error, f"cannot use the run directory {run_dir}") from None
    with ExitStack() as undo:
        undo.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise AlreadyRuns(f"hybrid-{role} runs already (process {pid}, run directory {run_dir})") from None
        undo.callback(file.unlink, missing_ok=True)
        with contextlib.suppress(OSError):  # it is the lock that counts; the number is for people
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        undo.callback(_claim_namespace().close)
        yield


def _claim_namespace() -> socket.socket:
    """There is one nftables table, whatever the role. Each network namespace has its own abstract sockets."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind("\0hybrid-access")
    except OSError:
        claim.close()
        raise AlreadyRuns("another hybrid-cpe or hybrid-hag runs in this network namespace") from None
    return claim


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: error: {message}\n")


def command_line(role: str, summary: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"hybrid-{role}",
        description=summary,
        epilog="Exit status: 0 stopped, 64 wrong command line, 69 something is not there or taken for now (a device, "
        "an address, a port), 70 failed while running, 71 the system lacks something (a privilege, a feature of the "
        "kernel, a program), 78 wrong configuration. SIGTERM and SIGINT stop the daemon and take everything out of the "
        "kernel again.",
    )
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help="UCI file (default: %(default)s)")
    parser.add_argument(
        "--run-dir",
        type=Path,
        default=RUN_DIR,
        metavar="DIR",
        help="for the control socket (default: %(default)s)",
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="where something is missing that may come by itself (a device, an address), wait for it instead of ending",
    )
    parser.add_argument(
        "--clean",
        action="store_true",
        help="take out of the kernel what a daemon that was killed has left, unless connections still need it, and end",
    )
    parser.add_argument("--log-level", choices=logging.LEVELS, help="default: option log_level of the configuration")
    parser.add_argument(
        "--log-to",
        choices=logging.SINKS,
        default="auto",
        help="auto (default): systemd's journal where it starts the daemon, else standard error, else syslog",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    return parser
