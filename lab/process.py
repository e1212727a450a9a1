# SPDX-License-Identifier: GPL-2.0-or-later
"""A background process of the lab, with all it wrote kept for error messages."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from lab.errors import LabError, SystemLacksError
from lab.patience import PATIENCE

POLL = 0.01  # seconds between two looks at something that offers no way to wait for it
CHECKOUT = Path(__file__).resolve().parent.parent


class Process:
    """One background process. It is killed when the thread that started it ends, however that happens.

    It runs in a session of its own: a ^C at the terminal reaches the lab, and the lab decides who stops when.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        name: str = "",
    ) -> None:
        """Starts `command` in the calling thread's namespace; both its outputs are added to `log`.

        `environment` is added to ours, `name` is what messages call it.
        Raises SystemLacksError if the program is not installed.
        """
        if shutil.which(command[0]) is None:
            raise SystemLacksError(f"the program '{command[0]}' is not installed")
        self.name = name or command[0]
        self._log: IO[bytes] = log.open("a+b") if log else tempfile.TemporaryFile()  # noqa: SIM115 (see close)
        self._begins = os.fstat(self._log.fileno()).st_size
        # setpriv sets the death signal: Python code between fork and exec would be unsafe with threads
        self._popen = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **(environment or {})},
            pass_fds=pass_fds,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status, minus the signal's number if one ended it, None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        """All it has written so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, self._begins).decode(errors="replace")

    def signal(self, number: int) -> None:
        """Sends a signal to this process alone; nothing if it has ended."""
        self._popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Waits for the end and gives the exit status. LabError if that takes more than `timeout` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} still runs after {timeout:g} s") from None

    def stop(self, timeout: float = PATIENCE / 2) -> int:
        """SIGTERM, then SIGKILL when that has not helped within `timeout` seconds; gives the exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            return self._popen.wait()

    def obituary(self, timeout: float = 1.0) -> str:
        """One sentence on how it ended, with what it wrote; it has ended, or is about to."""
        return f"{self.name} ended with status {self.wait(timeout)}: {self._last_words()}"

    def close(self) -> None:
        """Stops it if it runs, and lets go of what it wrote."""
        self.stop()
        self._log.close()

    def wait_until(self, ready: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Returns when `ready()` is true. LabError with what the process wrote if it ends or is late."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.alive:
                raise LabError(self.obituary())
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} is not ready after {timeout:g} s: {self._last_words()}")
            time.sleep(POLL)

    def _last_words(self) -> str:
        return self.output().strip() or "it wrote nothing"


def python_path() -> dict[str, str]:
    """The environment that makes a started Python import this checkout, wherever it runs."""
    inherited = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{CHECKOUT}:{inherited}" if inherited else str(CHECKOUT)}
