# SPDX-License-Identifier: GPL-2.0-or-later
"""A node whose own SYNs leave it changed: real connections with what the kernel by itself would not say."""

import contextlib
import os
import select
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from common.nfqueue import ACCEPT, Queue
from lab.node import Node

_QUEUE: Final = 77
_RULE: Final = f"OUTPUT -p tcp --syn -j NFQUEUE --queue-num {_QUEUE} --queue-bypass"


class Rewriter:
    """A context manager: inside, each SYN that the node sends becomes `edit(SYN)`; bytes from the IP header on."""

    def __init__(self, node: Node, edit: Callable[[bytes], bytes]) -> None:
        self._node = node
        self._edit = edit
        self._exit = contextlib.ExitStack()
        self.sent: list[bytes] = []
        self.failure: Exception | None = None  # of `edit`: that SYN has left as it was

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            with self._node.entered():
                self._queue = Queue(_QUEUE)
            undo.callback(self._queue.close)
            self._stopped, stop = os.pipe()
            undo.callback(os.close, self._stopped)
            thread = threading.Thread(target=self._run, daemon=True)
            thread.start()
            undo.callback(thread.join)
            undo.callback(os.close, stop)
            for program in ("iptables", "ip6tables"):
                self._node.run([program, "-w", "-t", "mangle", "-A", *_RULE.split()])
                undo.callback(self._node.run, [program, "-w", "-t", "mangle", "-D", *_RULE.split()])
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()
        if error is None and self.failure:
            raise self.failure

    def _run(self) -> None:
        while self._stopped not in select.select([self._queue.fileno(), self._stopped], [], [])[0]:
            for packet in self._queue.packets(64):
                self._queue.verdict(packet.id, ACCEPT, packet.mark, self._edited(packet.payload))

    def _edited(self, syn: bytes) -> bytes:
        try:
            syn = self._edit(syn)
        except Exception as failure:
            self.failure = failure
        self.sent.append(syn)
        return syn
