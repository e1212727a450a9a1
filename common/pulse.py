# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a worker is alive, and what is done about one that is not. Pure: questions and answers in, steps out.

A worker that hangs keeps every new connection of its queues waiting: only without the queues do they pass. So the
queues end, and the kernel drops what waits there. But most such workers are only slow, and what one of those knows of
its queues is wrong then. It would decide on SYNs that are gone, and the kernel numbers the packets of a new queue from
1 again (instance_create() in net/netfilter/nfnetlink_queue.c): the verdict would hit somebody else's SYN. Therefore a
worker that answers again is told to begin anew, and has its queues back when it says that it has.
"""

from __future__ import annotations

import enum
from typing import Final

# How many questions, one a second, may stay without an answer: until new connections pass unbonded, which a worker that
# is only slow survives; until it is killed in a way that shows where it hangs; until it is killed.
_DOUBT: Final = 2
_SILENCE: Final = 6
_DEAF: Final = 7


class Step(enum.Enum):
    WITHDRAW = "withdraw"  # end its queues
    BEGIN_ANEW = "begin-anew"  # tell it to, since `withdrawn`
    RESTORE = "restore"  # give it its queues back
    ABORT = "abort"
    KILL = "kill"


class Pulse:
    """One worker's. ``withdrawn`` is when its queues ended, by the caller's clock; None while it has them."""

    def __init__(self) -> None:
        self._silent = 0  # times it was asked since it last said anything
        self.withdrawn: float | None = None

    @property
    def hangs(self) -> bool:
        return self._silent > _DOUBT

    def ask(self, now: float) -> Step | None:
        """It is asked once more."""
        silent, self._silent = self._silent, self._silent + 1
        if silent == _DOUBT:
            self.withdrawn = now
            return Step.WITHDRAW
        if silent == _SILENCE:
            return Step.ABORT
        return Step.KILL if silent >= _DEAF else None

    def heard(self) -> Step | None:
        """It has said something."""
        hung, self._silent = self.hangs, 0
        return Step.BEGIN_ANEW if hung else None

    def begun(self, since: float) -> Step | None:
        """It has begun anew, as it was told when its queues had ended at that time; perhaps they have once more."""
        if since != self.withdrawn:
            return None
        self.withdrawn = None
        return Step.RESTORE
