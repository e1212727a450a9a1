# SPDX-License-Identifier: GPL-2.0-or-later
"""The log: a record is one line, whatever is in it, and goes to systemd's journal, to syslog or to standard error.

The journal gets fields besides (see about()), by which programs find records: `journalctl HYBRID_LINK=lte`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from common import journal
from common.throttle import Throttle

log = logging.getLogger("hybrid-access")

LEVELS = ("debug", "info", "warning", "error")
SINKS = ("auto", "journal", "syslog", "stderr")

_JOURNAL: Final = "/run/systemd/journal/socket"
_SYSLOG: Final = "/dev/log"
_BURST, _PERIOD = 30, 10.0  # records of a kind (a start changes a dozen settings), seconds
_FLOW: Final = "%s port %d to %s port %d"
_FIELDS: Final = "fields"  # the attribute of a record that has them


def about(**fields: object) -> dict[str, dict[str, str]]:
    """For `extra` of a record: what it is about, such as link, flow, worker, reason; in the journal HYBRID_LINK, ..."""
    return {_FIELDS: {name: str(value) for name, value in fields.items()}}


def told_in_full() -> bool:
    """Whether records of single connections are wanted; each would cost time otherwise."""
    return log.isEnabledFor(logging.DEBUG)


def tell(flow: tuple[str, int, str, int], what: str) -> None:
    """A record of one connection: client and server with their ports."""
    log.debug(f"%s: {_FLOW}", what, *flow, extra=about(flow=_FLOW % flow, reason=what))


def one_line(text: str) -> str:
    """Whatever a text holds, it cannot start another line or move the reader's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record) + _held_back(record))


def said(record: logging.LogRecord) -> str:
    """Its text."""
    return one_line(record.getMessage() + _held_back(record))


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """What about() has given it."""
    told: Mapping[str, str] = getattr(record, _FIELDS, {})
    return {name: one_line(value) for name, value in told.items()}


def _held_back(record: logging.LogRecord) -> str:
    more: int = getattr(record, "held_back", 0)
    return f" ({more} more of the kind were not logged)" if more else ""


class _Rate(logging.Filter):
    """A fault that comes again and again neither fills disks nor costs time. Who asks for 'debug' gets all of that."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle(_BURST, _PERIOD)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        kind = record.msg if record.args and record.msg != "%s" else record.getMessage()
        link = fields_of(record).get("link")  # one that flaps does not silence the others
        held_back = self._throttle.admit((kind, link), time.monotonic())
        record.held_back = held_back
        return held_back is not None


class _StandardError(logging.Handler):
    """Nothing is buffered: what a full disk does not take is not tried again at the end."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            os.write(2, self.format(record).encode(errors="backslashreplace") + b"\n")


class _Datagrams(logging.Handler):
    """Sends each record as a datagram to a local socket, and never waits; what is not taken goes to standard error."""

    def __init__(self, path: str, encode: Callable[[logging.LogRecord], bytes], instead: logging.Handler) -> None:
        super().__init__()
        self._path = path
        self._encode = encode
        self._instead = instead
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.socket.sendto(self._encode(record), self._path)
        except OSError:
            self._instead.handle(record)

    def close(self) -> None:
        self.socket.close()
        super().close()


def start(
    name: str,
    level: str,
    sink: str = "auto",
    environment: Mapping[str, str] = os.environ,
    besides: Iterable[logging.Handler] = (),
) -> None:
    """Logs from now on under that name; ``sink`` is one of SINKS.

    Handlers ``besides`` get records of their own levels, whatever the sink gets.
    """
    logging.raiseExceptions = False  # a full disk is no reason to say more
    for former in log.handlers:
        former.close()
    handler = _handler(name, _choose(environment) if sink == "auto" else sink)
    log.handlers[:] = [handler, *besides]
    log.filters[:] = [_Rate()]
    set_level(level)
    log.propagate = False


def set_level(level: str) -> None:
    """Of what goes to the sink."""
    wanted = logging.getLevelNamesMapping()[level.upper()]
    for sink in log.handlers[:1]:
        sink.setLevel(wanted)
    log.setLevel(min([wanted, *(other.level for other in log.handlers[1:])]))


def sink() -> str:
    """Where the log goes, in words."""
    return next((str(handler.name) for handler in log.handlers), "nowhere")


def descriptors() -> set[int]:
    """What the log has open besides standard error."""
    return {handler.socket.fileno() for handler in log.handlers if isinstance(handler, _Datagrams)}


def _choose(environment: Mapping[str, str]) -> str:
    """The journal where standard error goes there already (systemd.exec(5), $JOURNAL_STREAM); syslog without any."""
    try:
        ours = os.fstat(2)
    except OSError:
        return "syslog"
    if environment.get("JOURNAL_STREAM") == f"{ours.st_dev}:{ours.st_ino}":
        return "journal"
    return "syslog" if ours.st_rdev == os.stat(os.devnull).st_rdev else "stderr"


def _handler(name: str, sink: str) -> logging.Handler:
    plain: logging.Handler = _StandardError()
    plain.setFormatter(_OneLine(f"{name}[%(process)d] %(levelname)s: %(message)s"))
    plain.name = "standard error"
    if sink == "journal":
        handler: logging.Handler = _Datagrams(_JOURNAL, lambda record: journal.native(_fields(name, record)), plain)
        handler.name = f"the journal ({_JOURNAL})"
        return handler
    if sink == "syslog":
        line = _OneLine("%(message)s")
        handler = _Datagrams(
            _SYSLOG,
            lambda record: journal.syslog(name, record.process or 0, record.levelno, line.format(record)),
            plain,
        )
        handler.name = f"syslog ({_SYSLOG})"
        return handler
    return plain


def _fields(name: str, record: logging.LogRecord) -> dict[str, str]:
    fields = {
        "MESSAGE": said(record),
        "PRIORITY": str(journal.severity(record.levelno)),
        "SYSLOG_IDENTIFIER": name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
    }
    if record.exc_info:
        fields["MESSAGE"] += f": {one_line(repr(record.exc_info[1]))}"
        fields["EXCEPTION_TEXT"] = logging.Formatter().formatException(record.exc_info)
    return fields | {f"HYBRID_{field.upper()}": value for field, value in fields_of(record).items()}
