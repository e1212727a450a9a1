# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of one relayed TCP connection on one box: states, events, actions, and the table that joins them.

Theory. A box stands between two legs. The *client leg* ends at whoever sent the SYN, the *server leg* at
whoever it is addressed to; on the CPE the server leg is Multipath TCP, on the HAG the client leg is. The
box answers the client only with what the server said, so it keeps the client's SYN in the queue until the
server leg is up (draft-peirens-mptcp-transparent-00, section 4: each SYN+ACK waits for the next one):

    HELD      the SYN is in the queue, the server leg is connecting
    RELEASED  the server has answered; the SYN is on its way to our listener, the client has still to finish
    OPEN      both legs are up, bytes go both ways
    HALF_UP   the client has sent FIN and all before it was passed on; the server may go on sending
    HALF_DOWN the same with the roles exchanged
    CLOSED    nothing is left

Four rules explain the table:
  1. What a leg says is repeated on the other leg and nothing else is: FIN becomes FIN, a failure becomes RST.
     A relay that closes a broken connection in the ordinary way tells the peer that it has everything.
  2. A copy of the SYN is never a new connection while the first one is known. Held, it takes the place of the
     one in the queue: the client waits for the answer to its latest. Later it goes to the listener, whose TCP
     knows what to do with it. On to the server it must not go: that one has a connection with this address and
     port already.
  3. A client that has given up says nothing of it (a closed socket sends no RST for a SYN). Its copies cease, and
     what comes too late is answered with RST: either ends the attempt at the server.
  4. A SYN with MP_CAPABLE may be lost for being one. Who waits for an answer and has none is not to wait for ever: the
     server leg is tried once more, without. Most kernels do that by themselves; then the event never happens.

Everything here is pure: no socket, no clock. The worker performs the actions.
"""

from __future__ import annotations

import enum
import errno
from typing import Final


class _Key(enum.Enum):
    """A key of tables: the one object that it is. (Enum's own hash, of the name, is computed in Python each time.)"""

    __hash__ = object.__hash__


class State(_Key):
    HELD = "held"
    RELEASED = "released"
    OPEN = "open"
    HALF_UP = "half-up"
    HALF_DOWN = "half-down"
    CLOSED = "closed"


class Event(_Key):
    SYN_COPY = "syn-copy"  # the client sent its SYN again
    OTHERWISE = "otherwise"  # the way to the server is another one now
    LOST = "lost"  # all SYNs of the server leg so far, it seems
    GAVE_UP = "gave-up"  # the client's RST for its SYN, or for our answer to it
    CONNECTED = "connected"  # the server leg is established
    CONNECT_FAILED = "connect-failed"  # the server, or the network before it, said no
    ACCEPTED = "accepted"  # the client leg is established
    UP_ENDED = "up-ended"  # the client's FIN, and every byte before it is with the server leg
    DOWN_ENDED = "down-ended"  # the server's FIN, likewise
    BROKEN = "broken"  # RST or an error on either leg
    EXPIRED = "expired"  # the state's time is over


class Action(_Key):
    HOLD_COPY = "hold-copy"  # in place of the earlier one, if it begins anew with another sequence number
    COPY_TO_LISTENER = "copy-to-listener"  # let our TCP answer it
    RELEASE_SYN = "release-syn"  # the held SYN goes to the listener
    REFUSE_SYN = "refuse-syn"  # the client gets what the server said: RST, ICMP or silence
    DROP_SYN = "drop-syn"  # the held SYN is forgotten
    TAKE_SYN = "take-syn"  # the held SYN is as one that has just come
    TRY_PLAIN = "try-plain"  # another server leg in place of the first, without Multipath TCP
    RELAY = "relay"  # move bytes both ways
    END_CLIENT = "end-client"  # FIN on the client leg
    END_SERVER = "end-server"  # FIN on the server leg
    CLOSE = "close"  # both legs have ended in the ordinary way
    RESET = "reset"  # RST on both legs


Step = tuple[State, tuple[Action, ...]]

TRANSITIONS: Final[dict[State, dict[Event, Step]]] = {
    State.HELD: {
        Event.SYN_COPY: (State.HELD, (Action.HOLD_COPY,)),
        Event.OTHERWISE: (State.CLOSED, (Action.TAKE_SYN, Action.RESET)),
        Event.LOST: (State.HELD, (Action.TRY_PLAIN,)),
        Event.GAVE_UP: (State.CLOSED, (Action.DROP_SYN, Action.RESET)),
        Event.CONNECTED: (State.RELEASED, (Action.RELEASE_SYN,)),
        Event.CONNECT_FAILED: (State.CLOSED, (Action.REFUSE_SYN, Action.RESET)),
        Event.EXPIRED: (State.CLOSED, (Action.DROP_SYN, Action.RESET)),
    },
    State.RELEASED: {
        Event.SYN_COPY: (State.RELEASED, (Action.COPY_TO_LISTENER,)),
        Event.GAVE_UP: (State.CLOSED, (Action.RESET,)),
        Event.ACCEPTED: (State.OPEN, (Action.RELAY,)),
        Event.EXPIRED: (State.CLOSED, (Action.RESET,)),
    },
    State.OPEN: {
        Event.SYN_COPY: (State.OPEN, (Action.COPY_TO_LISTENER,)),
        Event.UP_ENDED: (State.HALF_UP, (Action.END_SERVER,)),
        Event.DOWN_ENDED: (State.HALF_DOWN, (Action.END_CLIENT,)),
        Event.BROKEN: (State.CLOSED, (Action.RESET,)),
    },
    State.HALF_UP: {
        Event.SYN_COPY: (State.HALF_UP, (Action.COPY_TO_LISTENER,)),
        Event.DOWN_ENDED: (State.CLOSED, (Action.END_CLIENT, Action.CLOSE)),
        Event.BROKEN: (State.CLOSED, (Action.RESET,)),
    },
    State.HALF_DOWN: {
        Event.SYN_COPY: (State.HALF_DOWN, (Action.COPY_TO_LISTENER,)),
        Event.UP_ENDED: (State.CLOSED, (Action.END_SERVER, Action.CLOSE)),
        Event.BROKEN: (State.CLOSED, (Action.RESET,)),
    },
    State.CLOSED: {},
}

# Seconds that a state may last. A held SYN does so after its latest copy, see held_for(). A released one outlives the
# listener's SYN+ACK retransmissions at 1, 3, 7 and 15 s.
LIFETIME: Final[dict[State, float]] = {State.HELD: 40.0, State.RELEASED: 20.0}

# The same while there are so many that others may be kept out. A client that is there sends its SYN again after 1 s and
# after 3 s, one with a made-up address does not. And a SYN that our listener has answered stays in its queue for up to
# 15 s once that is half full (reqsk_timer_handler() in net/ipv4/inet_connection_sock.c): with 8 s here, as many as may
# be half-open at a time are too few to fill it.
LIFETIME_IN_A_CROWD: Final[dict[State, float]] = {State.HELD: 3.0, State.RELEASED: 8.0}


_FIRST_GAP: Final = 4.0  # seconds: RFC 6298 has 1 for the first gap between two SYNs, and 3 where that has failed


def held_for(gap: float) -> float:
    """Seconds that a SYN is held which came ``gap`` seconds after the one before (0 for the first).

    TCP's back-off at most doubles the gap (RFC 6298, section 5.5), so the client has given up if no copy has come
    after two and a half times as long. A copy that comes even later begins anew, which costs it nothing: there is
    no answer yet.
    """
    return min(2.5 * gap or _FIRST_GAP, LIFETIME[State.HELD])


# Seconds without an answer after which the next copy of the client's SYN shows that ours are lost: that is the one that
# comes after 3 s, whether the client doubles the gaps (RFC 6298) or not (Linux since 6.5, others). Two or three of our
# own, all with MP_CAPABLE, have gone out by then.
LOST_AFTER: Final = 2.5


class FlowError(Exception):
    """An event that cannot happen in the flow's state: a fault of the caller, never of a peer."""


def step(state: State, event: Event) -> Step:
    """What ``event`` does in ``state``: the next state and the actions, in order.

    Raises FlowError for a pair that the table does not have.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise FlowError(f"{event.value} in state {state.value}") from None


class Refusal(enum.Enum):
    """How a client whose SYN is held learns that the server cannot be had."""

    RESET = "reset"
    HOST_UNREACHABLE = "host-unreachable"
    NO_ROUTE = "no-route"
    PROHIBITED = "prohibited"
    SILENCE = "silence"


# From the error of the server leg back to the packet that the kernel made it from: net/ipv4/icmp.c
# (icmp_err_convert) and net/ipv6/icmp.c (icmpv6_err_convert, tab_unreach).
_REFUSALS: Final[dict[int, Refusal]] = {
    errno.ECONNREFUSED: Refusal.RESET,
    errno.ECONNRESET: Refusal.RESET,
    errno.EHOSTUNREACH: Refusal.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Refusal.HOST_UNREACHABLE,
    errno.ENETUNREACH: Refusal.NO_ROUTE,
    errno.EACCES: Refusal.PROHIBITED,
    errno.EPERM: Refusal.PROHIBITED,
    errno.ETIMEDOUT: Refusal.SILENCE,
}


def refusal(error: int) -> Refusal:
    """What the client is told when the server leg failed with ``error`` (an errno value)."""
    return _REFUSALS.get(error, Refusal.RESET)
