# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a connection that began as Multipath TCP goes on as such: the handshake proves nothing for what follows it.

Theory. Where the path takes the option out of data, the end that receives it without falls back to TCP (RFC 8684,
section 3.7). The other end need not notice: Linux takes ADD_ADDR, or the third ACK, for a proof that the peer goes on
(check_fully_established(), net/mptcp/options.c), and ignores that acknowledgements come without DATA_ACK. After some
200 ms it sends the data again, as Multipath TCP would on another subflow (__mptcp_retrans(), net/mptcp/protocol.c), and
its peer, which does plain TCP now, takes that for new data: wrong bytes, and nobody is told. What the sender can know
is that the peer's TCP acknowledges what its Multipath TCP does not. One look may find that by chance, the kernel may
acknowledge the one before the other; not two looks, if there was progress between them.

Pure: the socket is asked by `common.mptcp`.
"""

from __future__ import annotations

import enum
from typing import Final

from common.mptcp import Delivery

LOOKS: Final = 20  # in a row, after which nothing can be told: too little was sent


class Proof(enum.Enum):
    OPEN = "open"  # nothing can be told yet
    CARRIED = "carried"  # Multipath TCP goes on, as far as there was something to see
    FELL_BACK = "fell back"  # this end has, and knows
    STRIPPED = "stripped"  # the other end has, and this one goes on: it must not


class Looks:
    """What was found at one connection's Multipath TCP leg so far: is what is sent carried, and what is received?"""

    __slots__ = ("_acknowledged", "_left", "_received", "_sent", "under_way")

    def __init__(self) -> None:
        self.under_way = False  # it is being looked at from time to time
        self._sent = False  # proved, or given up
        self._received = False
        self._acknowledged = 0
        self._left = LOOKS

    @property
    def over(self) -> bool:
        return self._sent and self._received

    def due(self, sent: int, received: int) -> bool:
        """Whether there is something to see that was not there before; both in bytes."""
        return (sent > 0 and not self._sent) or (received > 0 and not self._received)

    def judge(self, sent: int, received: int, delivery: Delivery | None) -> Proof:
        """``delivery`` is what the kernel says of what was sent, None after a fallback."""
        if delivery is None:
            return Proof.FELL_BACK
        self._received = self._received or received > 0
        if not self._sent and sent:
            before, self._acknowledged = self._acknowledged, delivery.acknowledged
            self._left -= 1
            self._sent = delivery.outstanding < sent or self._left <= 0
            if not self._sent and 0 < before < self._acknowledged:
                return Proof.STRIPPED
        return Proof.OPEN if self.due(sent, received) else Proof.CARRIED
