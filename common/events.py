# SPDX-License-Identifier: GPL-2.0-or-later
"""What has happened lately: the last of the log's records, with their fields, for who asks on the control socket.

They are those of control, which decides; its workers' records are of single connections. What the log holds back of
one kind (common/log.py) does not come here either, so nothing fills the memory, or a follower's terminal.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import Any, Final

from common.channel import Message
from common.control import Reply
from common.log import fields_of, said

_KEPT: Final = 500
_LONGEST: Final = 1000  # characters of one

Event = dict[str, Any]


class Events(logging.Handler):
    """A handler of the log, and the command "events" of the control socket.

    Each is {"time": SECONDS since 1970, "role": ..., "level": ..., "what": TEXT} and the fields of the record, such as
    link, worker and reason.
    """

    def __init__(self, role: str) -> None:
        super().__init__(logging.INFO)
        self._role = role
        self._process = os.getpid()
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._followers: list[Reply] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.process != self._process:
            return  # a worker's: it has this handler by its fork
        event = {
            **{name: value[:_LONGEST] for name, value in fields_of(record).items()},
            "time": round(record.created, 3),
            "role": self._role,
            "level": record.levelname.lower(),
            "what": said(record)[:_LONGEST],
        }
        self._kept.append(event)
        self._tell([event])

    def command(self, request: Message, reply: Reply) -> None:
        """Replies with what there is; if the request says "follow", again with whatever comes, until nobody listens."""
        reply(list(self._kept))
        if request.get("follow") is True:
            self._tell([])  # who has gone since the last event is forgotten
            self._followers.append(reply)

    def _tell(self, events: list[Event]) -> None:
        if self._followers:
            self._followers = [reply for reply in self._followers if reply(events)]
