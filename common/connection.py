# SPDX-License-Identifier: GPL-2.0-or-later
"""One relayed connection: the flow's state machine with its two sockets and its held SYN."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from common import marks, mptcp, transparent
from common.backlog import HEAVY, Backlog
from common.flow import LOST_AFTER, Action, Event, Refusal, State, held_for, refusal, step
from common.loop import EDGE, ERR, HUP, IN, OUT, RDHUP, Callback, Loop
from common.nfqueue import ACCEPT, DROP, Queue, QueuedPacket
from common.proof import Looks, Proof
from common.relay import Half, PipePool, Relay
from common.transparent import MPTCP, Address

Key = tuple[str, int, str, int]  # client address and port, server address and port

FELL_BACK: Final = "the path takes Multipath TCP's option out of later segments"

_NEVER: Final = 1 << 62  # bytes
_TCP_CLOSE: Final = 7  # include/net/tcp_states.h: of a socket whose connection is in TIME_WAIT, or is no more
_WATCH = IN | OUT | RDHUP | EDGE


@dataclass(frozen=True, slots=True)
class Held:
    """What it takes to decide on a packet later: its number in the queue, its mark, and what is in it."""

    id: int
    mark: int
    device: int  # the ifindex where it arrived
    seq: int  # its TCP sequence number
    payload: bytes


class Owner(Protocol):
    """What a connection asks of the gate where it began."""

    loop: Loop
    queue: Queue
    pipes: PipePool
    join_after: int  # bytes
    tries_plain: bool  # where a server leg in Multipath TCP gets no answer; else the kernel does
    patience: float  # seconds, for the client leg to come once its SYN is released
    report_growth: Callable[[int, str], None]  # to control, with token and policy

    def count(self, what: str) -> None: ...
    def plain_leg(self, syn: Held, source: Address) -> socket.socket: ...  # raises OSError
    def release(self, connection: Connection, syn: Held) -> None: ...  # to its listener
    def take(self, syn: Held) -> None: ...  # as if it had just come
    def opened(self, connection: Connection) -> None: ...
    def forget(self, connection: Connection) -> None: ...
    def look_at(self, connection: Connection) -> None: ...  # some times, a little later each
    def found(self, connection: Connection, proof: Proof) -> None: ...
    def weigh(self, connection: Connection) -> None: ...  # some times a second while it sends
    def failed(self, connection: Connection, syn: Held | None) -> None: ...  # by a fault of ours; with a SYN still held


class Connection:
    """From the SYN in the queue to the last byte. Its owner hears of its beginning and its end.

    What it does when it is woken, it does under guard: a fault of ours costs this connection and no other. Whoever has
    it do something else sees to that with fail().
    """

    __slots__ = (
        "_asked",
        "_backlog",
        "_copy",
        "_error",
        "_heard",
        "_heavy",
        "_isn",
        "_leg",
        "_looks",
        "_missed",
        "_owner",
        "_relay",
        "_syn",
        "answer",
        "deadline",
        "grown",
        "key",
        "lifetime",
        "policy",
        "started",
        "state",
        "token",
        "why",
    )

    def __init__(self, owner: Owner, key: Key, syn: QueuedPacket, seq: int, now: float, policy: str = "") -> None:
        self._owner = owner
        self.key = key
        self.state = State.HELD
        self.started = now
        self.lifetime = held_for(0.0)
        self.deadline = now + self.lifetime
        self.token: int | None = None  # of the Multipath TCP leg; None while unknown and for plain TCP
        self.answer: mptcp.Answer | None = None  # the server leg's, if Multipath TCP was asked for and it is plain TCP
        self.why: str | None = None  # it is not bonded
        self.grown = False
        self.policy = policy
        self._syn: Held | None = Held(syn.id, syn.mark, syn.device, seq, syn.payload)
        self._copy: Held | None = None
        self._heard = now  # of the client
        self._isn = seq
        self._leg: socket.socket | None = None  # to the server; none while its address pair is not free
        self._asked = False  # for Multipath TCP
        self._relay: Relay | None = None
        self._error = 0
        self._missed = 0  # events of the server leg that came before the relay
        self._heavy = HEAVY  # bytes sent from which on it is weighed
        self._backlog: Backlog | None = None  # of one that is
        self._looks: Looks | None = None  # of a connection that began as Multipath TCP, until it has proved to go on so

    def connect(self, server: socket.socket) -> None:
        """This is the server leg, which is connecting.

        The server, or the network before it, may have said no while connect() had the socket locked. The kernel keeps
        an ICMP error that comes then as a soft one, of no effect until the next one comes: in a second, when the SYN is
        sent again (tcp_v4_err() in net/ipv4/tcp_ipv4.c).
        """
        self._leg = server
        self._asked = self._asked or server.proto == MPTCP
        self._guard(lambda: self._set_out(server))

    def _set_out(self, server: socket.socket) -> None:
        self._owner.loop.add(server.fileno(), _WATCH, self._on_connecting)
        self._error = server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self._error:
            self.handle(Event.CONNECT_FAILED)

    def handle(self, event: Event) -> None:
        self.state, actions = step(self.state, event)
        for action in actions:
            _PERFORM[action](self)

    def syn_again(self, packet: QueuedPacket, seq: int, now: float) -> None:
        self._copy = Held(packet.id, packet.mark, packet.device, seq, packet.payload)
        if self.state is State.HELD:
            self.lifetime = max(held_for(now - self._heard), self.deadline - now)  # the network doubles packets, too
            self.deadline = now + self.lifetime
            self._heard = now
        self.handle(Event.SYN_COPY)
        if self.state is State.HELD and now - self.started >= LOST_AFTER and self._may_try_plain():
            self.handle(Event.LOST)

    def _may_try_plain(self) -> bool:
        leg = self._leg
        return self._owner.tries_plain and leg is not None and leg.proto == MPTCP and _silent(leg)

    @property
    def since(self) -> float:
        """When the SYN was released or, while it is held, the client was last heard: of one that is not open yet."""
        return self.deadline - self.lifetime

    def is_left(self, seq: int) -> bool:
        """Whether the client, whose SYN has this number, has begun anew where this one is still to reach a slow server.

        Its client leg has ended both ways then, so no TCP is left that could tell the client of it. The listener would
        accept the new one, and nobody would wait for that.
        """
        if self._relay is None or seq == self._isn:
            return False
        try:
            state = self._relay.client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        except OSError:
            return True  # the first subflow is gone
        return state == _TCP_CLOSE

    def given_up(self, seq: int) -> bool:
        """The client's RST: whether it was for the SYN that is held, and goes no further."""
        if self.state not in (State.HELD, State.RELEASED) or seq != (self._isn + 1) & 0xFFFFFFFF:
            return False
        held = self.state is State.HELD
        self._owner.count("given up: RST of the client")
        self.handle(Event.GAVE_UP)
        return held

    def catch_up(self) -> None:
        """Does at once what the client leg's next event would have it do."""
        if self._relay is not None:
            self._on_client(IN | OUT | RDHUP | ERR)

    def accepted(self, client: socket.socket) -> None:
        """The listener has the client leg."""
        if self.token is None:
            self.token = mptcp.token(client)
        self._relay = Relay(self._owner.loop, client, self._server, self._owner.pipes, self._report, self._soon)
        self.handle(Event.ACCEPTED)

    def describe(self, now: float) -> dict[str, Any]:
        """For people and programs that look in. Bytes: ``kept`` by this process, ``held`` by the box in all (Half)."""
        client, cport, server, sport = self.key
        relay = self._relay
        subflows = self._subflows()
        fell_back = self.token is not None and relay is not None and not subflows
        return {
            "client": client,
            "client_port": cport,
            "server": server,
            "server_port": sport,
            "state": self.state.value,
            "age": round(now - self.started, 3),
            "up_bytes": relay.up.moved if relay else 0,
            "down_bytes": relay.down.moved if relay else 0,
            "up_kept": relay.up.kept if relay else 0,
            "down_kept": relay.down.kept if relay else 0,
            "up_held": relay.up.held if relay else 0,
            "down_held": relay.down.held if relay else 0,
            "token": None if fell_back else self.token,
            "subflows": subflows,
            "why": FELL_BACK if fell_back else self.why,
        }

    @property
    def _server(self) -> socket.socket:
        assert self._leg is not None
        return self._leg

    def _subflows(self) -> int:
        if self._leg is None:
            return 0
        if self._relay is not None and self._relay.client.fileno() >= 0:
            return mptcp.subflows(self._relay.client) or mptcp.subflows(self._server)
        return mptcp.subflows(self._server)

    def fail(self) -> None:
        """Resets what there is, after a fault of ours."""
        self.state = State.CLOSED
        syn, self._syn = self._syn, None
        relay, leg = self._relay, self._leg
        with contextlib.suppress(Exception), contextlib.ExitStack() as steps:  # each is done whatever becomes of others
            for sock in (leg, relay.client if relay else None):
                if sock is not None:
                    steps.callback(sock.close)
                    steps.callback(self._owner.loop.forget, sock.fileno())
            if relay is not None:
                steps.callback(relay.up.drop)
                steps.callback(relay.down.drop)
        self._owner.failed(self, syn)

    def _soon(self, callback: Callback) -> None:
        self._owner.loop.call_soon(lambda: self._guard(callback))

    def _guard(self, callback: Callback) -> None:
        try:
            callback()
        except Exception:
            self.fail()

    def _on_connecting(self, events: int) -> None:
        self._missed |= events  # what happens to the server leg before the client leg is there, the relay finds out
        try:
            self._see_connecting(events)
        except Exception:
            self.fail()

    def _see_connecting(self, events: int) -> None:
        if self.state is not State.HELD:
            return
        if events & (ERR | HUP):
            self._error = self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if self._error:
                self.handle(Event.CONNECT_FAILED)
                return
        self.handle(Event.CONNECTED)  # first: the client waits for it
        self.token = mptcp.token(self._server)
        if self.token is None and self._asked:
            self.answer = mptcp.answer(self._server)

    def _on_server(self, events: int) -> None:
        assert self._relay is not None
        try:
            self._relay.on_server(events)
            self._watch_growth()
        except Exception:
            self.fail()

    def _on_client(self, events: int) -> None:
        assert self._relay is not None
        try:
            self._relay.on_client(events)
            self._watch_growth()
        except Exception:
            self.fail()

    def look(self) -> bool:
        """Looks whether Multipath TCP goes on; False if there is no more to see for now."""
        looks = self._looks
        if looks is None or self.state is State.CLOSED:
            return False
        leg, sent, received = self._multipath()
        proof = looks.judge(sent, received, mptcp.delivery(leg))
        if proof is Proof.OPEN:
            return True
        looks.under_way = False
        if proof is not Proof.CARRIED:
            self.why = FELL_BACK
        if looks.over or proof is not Proof.CARRIED:
            self._looks = None
            self._owner.found(self, proof)
        if proof is Proof.STRIPPED:
            self.handle(Event.BROKEN)
        return False

    def _multipath(self) -> tuple[socket.socket, int, int]:
        """The Multipath TCP leg, the bytes sent there and the bytes received."""
        relay = self._relay
        assert relay is not None
        if self._server.proto == MPTCP:
            return self._server, relay.up.moved, relay.down.moved
        return relay.client, relay.down.moved, relay.up.moved

    def _watch_looks(self, looks: Looks) -> None:
        if looks.due(*self._multipath()[1:]):
            looks.under_way = True
            self._owner.look_at(self)

    def _watch_growth(self) -> None:
        assert self._relay is not None
        if self._looks is not None and not self._looks.under_way:
            self._watch_looks(self._looks)
        if not self.grown and self._relay.moved >= self._owner.join_after and self.state is not State.CLOSED:
            self.grown = True
            if self.token is not None:
                self._owner.report_growth(self.token, self.policy)

        if self._outgoing.moved >= self._heavy and self.token is not None:
            self._heavy = _NEVER
            self._owner.weigh(self)

    @property
    def _outgoing(self) -> Half:
        """What goes to the other box."""
        assert self._relay is not None
        return self._relay.up if self._server.proto == MPTCP else self._relay.down

    def weigh(self) -> bool:
        """Bounds what is on its way to the other box; False if nothing has moved since the last look."""
        if self.state is State.CLOSED:
            return False
        if self._backlog is None:
            self._backlog = Backlog()
        leg, sent, _ = self._multipath()
        found = mptcp.waiting(leg)
        if found is None:
            self._heavy = _NEVER
            return False
        subflows, waiting = found
        if (sent, waiting) == self._backlog.seen:
            self._heavy = sent + HEAVY
            return False
        self._backlog.seen = sent, waiting
        if subflows > 1 or self._backlog.bound is not None:
            room = self._backlog.room(mptcp.paths(leg), waiting)
            if room is not None:
                transparent.bound(leg, room)
        return True

    def _report(self, event: Event) -> None:
        self.handle(event)

    # What the state machine asks for

    def _decide(self, packet: Held, verdict: int, ours: int = 0) -> None:
        self._owner.queue.verdict(packet.id, verdict, marks.combine(packet.mark, ours))

    def _hold_copy(self) -> None:
        assert self._syn is not None
        assert self._copy is not None
        if self._copy.seq == self._isn:
            # The same once more, or less: the CPE's kernel leaves MP_CAPABLE out of later copies. And the timestamp of
            # the answer tells it that the first one was not lost.
            self._decide(self._copy, DROP)
            return
        self._decide(self._syn, DROP)
        self._syn = self._copy
        self._isn = self._copy.seq

    def _copy_to_listener(self) -> None:
        assert self._copy is not None
        self._owner.release(self, self._copy)

    def _release_syn(self) -> None:
        assert self._syn is not None
        self._owner.release(self, self._syn)
        self._syn = None
        self.lifetime = self._owner.patience
        self.deadline = self._owner.loop.now() + self.lifetime

    def _refuse_syn(self) -> None:
        assert self._syn is not None
        answer = refusal(self._error)
        self._owner.count(f"refused: {answer.value}")
        if answer is Refusal.SILENCE:
            self._decide(self._syn, DROP)
        else:
            self._decide(self._syn, ACCEPT, marks.REFUSE[answer])
        self._syn = None

    def _drop_syn(self) -> None:
        assert self._syn is not None
        self._decide(self._syn, DROP)
        self._syn = None

    def _take_syn(self) -> None:
        assert self._syn is not None
        syn, self._syn = self._syn, None
        self._owner.take(syn)

    def _try_plain(self) -> None:
        assert self._syn is not None
        self._owner.count("tried again without Multipath TCP")
        source: Address = self._server.getsockname()[:2]
        self._owner.loop.forget(self._server.fileno())
        self._server.close()  # first, as it has the address pair
        try:
            leg = self._owner.plain_leg(self._syn, source)
        except OSError as error:
            self._owner.count(f"cannot try again: {error.strerror}")
            self.handle(Event.EXPIRED)  # the client's next copy begins anew
            return
        self._missed = 0
        self.connect(leg)

    def _start_relay(self) -> None:
        relay = self._relay
        assert relay is not None
        self._owner.opened(self)
        # What the opening alone had to know: an open connection has no deadline, and may stay for days.
        self._copy = None
        self.deadline = self.lifetime = self._heard = 0.0
        if self.token is not None:
            self._looks = Looks()
        loop = self._owner.loop
        loop.replace(relay.server.fileno(), self._on_server)
        loop.add(relay.client.fileno(), _WATCH, self._on_client)  # which tells of what has come already
        if self._missed & ~OUT:
            self._on_server(self._missed)
        else:
            self._watch_growth()  # without a byte, if that is what was asked for

    # With the last of both FINs comes CLOSE, whose close() sends it: all has been read, so it is no RST.

    def _end_client(self) -> None:
        assert self._relay is not None
        if self.state is not State.CLOSED:
            _end(self._relay.client)

    def _end_server(self) -> None:
        assert self._relay is not None
        if self.state is not State.CLOSED:
            _end(self._relay.server)

    def _close(self) -> None:
        assert self._relay is not None
        self._relay.close()
        self._owner.forget(self)

    def _reset(self) -> None:
        if self._relay is not None:
            self._owner.count("reset: a leg failed")
            self._relay.reset()
        elif self._leg is not None:
            self._owner.loop.forget(self._leg.fileno())
            self._leg.close()
        self._owner.forget(self)


def _silent(leg: socket.socket) -> bool:
    """Whether nothing has come yet for a leg that is connecting; else its event is on the way."""
    look = select.poll()
    look.register(leg, select.POLLIN | select.POLLOUT)
    return not look.poll(0)


def _end(leg: socket.socket) -> None:
    try:
        leg.shutdown(socket.SHUT_WR)
    except OSError:
        return  # ENOTCONN: the peer has reset this leg already; its event is on the way and will say so


_PERFORM: dict[Action, Callable[[Connection], None]] = {
    Action.HOLD_COPY: Connection._hold_copy,
    Action.COPY_TO_LISTENER: Connection._copy_to_listener,
    Action.RELEASE_SYN: Connection._release_syn,
    Action.REFUSE_SYN: Connection._refuse_syn,
    Action.DROP_SYN: Connection._drop_syn,
    Action.TAKE_SYN: Connection._take_syn,
    Action.TRY_PLAIN: Connection._try_plain,
    Action.RELAY: Connection._start_relay,
    Action.END_CLIENT: Connection._end_client,
    Action.END_SERVER: Connection._end_server,
    Action.CLOSE: Connection._close,
    Action.RESET: Connection._reset,
}
