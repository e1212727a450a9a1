# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon's control socket that says whatever a test wants, once."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FakeDaemon:
    """`asked` is set when the request is there, `request` is its line; `answer` None is to stay silent."""

    def __init__(self, path: Path, answer: bytes | None) -> None:
        self.answer = answer
        self.request = b""
        self.asked = threading.Event()
        self._over = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes an accept() that nobody came to
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as lines:
            self.request = lines.readline()
            self.asked.set()
            if self.answer is None:
                self._over.wait()
            else:
                connection.sendall(self.answer)


@contextmanager
def fake_daemon(run_dir: Path, role: str, answer: bytes | None) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(run_dir / f"{role}.sock", answer)
    try:
        yield daemon
    finally:
        daemon.stop()


def abandoned_socket(run_dir: Path, role: str) -> None:
    """What a daemon that was killed leaves."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / f"{role}.sock"))
