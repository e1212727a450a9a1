# SPDX-License-Identifier: GPL-2.0-or-later
"""What both daemons do alike around their work: command line, configuration, one instance, exit status."""

from __future__ import annotations

import argparse
import fcntl
import importlib.metadata
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Final, TypeVar

from common import log as logging
from common.config import Config, ConfigErrors, load
from common.log import log
from common.loop import Loop
from common.system import SystemLacks

CONFIG: Final = Path("/etc/config/hybridaccess")
RUN_DIR: Final = Path("/run/hybrid-access")


class Exit(IntEnum):
    """Exit status by class."""

    OK = 0
    CONFIG = 1
    USAGE = 2  # argparse's own
    SYSTEM = 3
    FAILED = 4


class Failed(Exception):
    """The daemon cannot go on; the text says why."""


RoleConfig = TypeVar("RoleConfig")


def main(
    role: str,
    summary: str,
    pick: Callable[[Config], RoleConfig | None],
    run: Callable[[RoleConfig, Path], None],
    arguments: Sequence[str] | None,
) -> int:
    """Parses the command line, loads the configuration and runs the daemon; returns the exit status."""
    options = command_line(role, summary).parse_args(arguments)
    logging.start(f"hybrid-{role}", options.log_level)
    try:
        config = pick(load(options.config))
        if config is None:
            log.error(
                "%s: no 'config %s' section: this box is not configured as %s",
                options.config,
                role,
                role.upper(),
            )
            return Exit.CONFIG
        run(config, options.run_dir)
    except ConfigErrors as errors:
        for error in errors.errors:
            log.error("%s", error)
        return Exit.CONFIG
    except SystemLacks as lack:
        log.error("%s", lack)
        return Exit.SYSTEM
    except Failed as failure:
        log.error("%s", failure)
        return Exit.FAILED
    except Exception:
        log.exception("this should not have happened")
        return Exit.FAILED
    return Exit.OK


def stop_on_signals(loop: Loop) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.on_signal(number, loop.stop)


@contextmanager
def only_instance(run_dir: Path, role: str) -> Iterator[None]:
    """Raises SystemLacks if a daemon runs already with this run directory, or at all in this network namespace."""
    try:
        run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(run_dir / f"{role}.pid", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SystemLacks(f"cannot use the run directory {run_dir}: {error.strerror}") from None
    with ExitStack() as undo:
        undo.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise SystemLacks(f"hybrid-{role} runs already (process {pid}, run directory {run_dir})") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        undo.callback((run_dir / f"{role}.pid").unlink, missing_ok=True)
        undo.callback(_claim_namespace().close)
        yield


def _claim_namespace() -> socket.socket:
    """There is one nftables table, whatever the role. Each network namespace has its own abstract sockets."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind("\0hybrid-access")
    except OSError:
        claim.close()
        raise SystemLacks("another hybrid-cpe or hybrid-hag runs in this network namespace") from None
    return claim


def command_line(role: str, summary: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"hybrid-{role}",
        description=summary,
        epilog="Exit status: 0 stopped, 1 wrong configuration, 2 wrong command line, 3 the system lacks something, "
        "4 failed while running. SIGTERM and SIGINT stop the daemon and take everything out of the kernel again.",
    )
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help="UCI file (default: %(default)s)")
    parser.add_argument(
        "--run-dir",
        type=Path,
        default=RUN_DIR,
        metavar="DIR",
        help="for the control socket (default: %(default)s)",
    )
    parser.add_argument("--log-level", choices=logging.LEVELS, default="info", help="default: %(default)s")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version()}")
    return parser


def version() -> str:
    try:
        return importlib.metadata.version("hybrid-access")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
