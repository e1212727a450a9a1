# SPDX-License-Identifier: GPL-2.0-or-later
"""Where connections begin: SYNs from the queue are passed on or held, released ones are accepted and relayed."""

from __future__ import annotations

import errno
import select
import socket
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from common import marks, packet, sock_diag, transparent
from common.connection import Connection, Held, Key
from common.flow import LIFETIME_IN_A_CROWD, Event, State
from common.log import about, log, tell, told_in_full
from common.loop import IN, Loop
from common.nfqueue import ACCEPT, DROP, Queue, QueuedPacket
from common.packet import PacketError, Segment
from common.proof import Proof
from common.relay import PipePool
from common.replay import Replay
from common.reserve import Reserve
from common.role import Decision, Role
from common.room import Limits, Room
from common.transparent import Address

_SWEEP: Final = 1.0  # seconds between looks for flows whose time is over
_BATCH: Final = 64  # SYNs, or connections, that are taken before open connections have their turn
_RESERVE: Final = 64  # descriptors for clients that wait to be accepted
# Seconds before the next look whether an address pair is free whose last connection is about to end: its last ACK is
# under way, here or at the peer.
_AGAIN: Final = (0.01, 0.02, 0.04, 0.08, 0.16)
_WAITING: Final = 256  # SYNs that may wait so, of each worker
_FREE: Final = 0.25  # seconds between looks whether the last connection on a pair has delivered what it still had
_LOOK: Final = 0.05  # seconds between looks at connections that are to prove that they go on as Multipath TCP
_WEIGH: Final = 0.25  # seconds between looks at what connections have on their way that send much
_AT_ONCE: Final = 64  # of them that are looked at in one go: a look takes some 15 microseconds
_COMPLAINT: Final = 60.0  # seconds between two records of faults
_PAUSE: Final = 0.1  # seconds before accepting again when the box has run out of something

LACKS_FAMILY: Final = "this box lacks the address family"  # is without IPv6, though it may forward it


class Gate:
    """One worker's queue, listeners and connections."""

    def __init__(
        self,
        loop: Loop,
        role: Role,
        queue: Queue,
        listeners: Sequence[socket.socket],
        release_mark: int,
        limits: Limits,
        report_growth: Callable[[int, str], None],
        replay: Replay | None = None,
    ) -> None:
        """``replay`` is what a role that replays has."""
        self.loop = loop
        self.queue = queue
        self.pipes = PipePool(limits.pipes)
        self.join_after = role.join_after
        self.tries_plain = role.tries_plain
        self.patience = role.patience
        self.report_growth = report_growth
        self.counters: Counter[str] = Counter()
        self.connections: dict[Key, Connection] = {}  # by what their clients' packets say
        self._parting: set[Connection] = set()  # their clients are through with them and may be back on the same ports
        self._opening: dict[Key, Connection] = {}  # those with a deadline: held or released
        self._room = Room(limits)
        self._reserve = Reserve(_RESERVE)
        self._unproved: list[Connection] = []  # to be looked at next time
        self._young: list[Connection] = []  # the time after
        self._heavy: list[Connection] = []  # long transfers: to be weighed,
        self._weighed: list[Connection] = []  # and those that have been, in this round
        self._release_mark = release_mark
        self._replay = replay
        self._sweeping = False
        self._waiting = 0
        self._put_off: dict[int, QueuedPacket] = {}  # SYNs that are to be looked at again, by number
        self._next_complaint = 0.0  # not before, by the loop's clock
        self._role = role
        self._listeners = listeners
        self._families = frozenset(listener.family for listener in listeners)
        loop.add(queue.fileno(), IN, self._on_queue)
        for listener in listeners:
            self._watch(listener)

    def close(self) -> None:
        """Takes no more connections; those that are open stay."""
        if not self._listeners:
            return
        for connection in self._held():  # goes with the queue
            connection.handle(Event.EXPIRED)
        self._put_off.clear()
        self.loop.remove(self.queue.fileno())
        self.queue.close()
        for listener in self._listeners:
            self.loop.remove(listener.fileno())
            listener.close()
        self._listeners = ()
        self._reserve.close()
        if self._replay:
            self._replay.close()

    def adopt(self, role: Role, limits: Limits | None = None) -> None:
        """Goes by these with new connections from now on; what has been learned stays, and so do open connections."""
        self._role = replace(role, experience=self._role.experience)
        self.join_after = role.join_after
        if limits is not None:
            self._room.limits = limits
            self.pipes.most = limits.pipes

    def begin_anew(self) -> None:
        """Forgets the server legs of the SYNs that are held, and takes these as if they had just come."""
        for connection in self._held():
            try:
                connection.handle(Event.OTHERWISE)
            except Exception:
                connection.fail()

    def take(self, syn: Held) -> None:
        """Soon, when its connection is forgotten."""
        queued = self._put_off[syn.id] = QueuedPacket(syn.id, syn.mark, syn.device, syn.payload)
        self.loop.call_soon(partial(self._look_again, queued))

    def _held(self) -> list[Connection]:
        return [connection for connection in self._opening.values() if connection.state is State.HELD]

    def queue_ended(self, since: float) -> None:
        """Somebody has ended the queue then, by the loop's clock, and will have it begin anew, numbers and all.

        The kernel has dropped what waited there, so whose SYN was released since then has none at the listener. The
        server legs go as well: one with its client's address would have the answers to what the client tries now.
        """
        if not self._listeners:
            return
        self._put_off.clear()
        for queued in self.queue.packets(sys.maxsize):
            self.queue.verdict(queued.id, DROP, queued.mark)
        for connection in list(self._opening.values()):
            if connection.state is State.HELD or connection.since >= since:
                connection.handle(Event.EXPIRED)

    def describe(self) -> list[dict[str, Any]]:
        now = self.loop.now()
        return [connection.describe(now) for connection in self.all()]

    def all(self) -> list[Connection]:
        return [*self.connections.values(), *self._parting]

    def avoided(self) -> list[dict[str, Any]]:
        """What new connections are not bonded to now, and for how long."""
        experience = self._role.experience
        return experience.describe(self.loop.now()) if experience else []

    def count(self, what: str) -> None:
        self.counters[what] += 1

    # What connections tell

    def opened(self, connection: Connection) -> None:
        self._opens_no_more(connection)
        self._room.remember(self._role.host(connection.key))
        self.counters["opened: plain TCP" if connection.token is None else "opened: bonded"] += 1
        connection.why = self._learn(connection)
        if connection.why is not None:
            self.counters[f"plain: {connection.why}"] += 1
        if told_in_full():
            tell(connection.key, "opened: bonded" if connection.why is None else f"plain: {connection.why}")

    def look_at(self, connection: Connection) -> None:
        if not self._unproved and not self._young:
            self.loop.call_later(_LOOK, self._look)
        self._young.append(connection)

    def _look(self) -> None:
        again = [connection for connection in self._unproved if _guarded(connection, connection.look)]
        self._unproved, self._young = again + self._young, []
        if self._unproved:
            self.loop.call_later(_LOOK, self._look)

    def weigh(self, connection: Connection) -> None:
        if self._role.flow_buffer < transparent.FLOW_BUFFER:
            return  # or it is bounded by that
        if not self._heavy and not self._weighed:
            self.loop.call_later(_WEIGH, self._weigh)
        self._heavy.append(connection)

    def _weigh(self) -> None:
        """Some at a time: held SYNs wait behind it."""
        some, self._heavy = self._heavy[:_AT_ONCE], self._heavy[_AT_ONCE:]
        self._weighed += [connection for connection in some if _guarded(connection, connection.weigh)]
        if self._heavy:
            self.loop.call_soon(self._weigh)
            return
        self._heavy, self._weighed = self._weighed, []
        if self._heavy:
            self.loop.call_later(_WEIGH, self._weigh)

    def found(self, connection: Connection, proof: Proof) -> None:
        if proof is not Proof.CARRIED:
            self.counters[f"plain: {connection.why}"] += 1
        if self._role.experience is not None:
            host, _, server, _ = connection.key
            carried, now = proof is Proof.CARRIED, self.loop.now()
            self._role.experience.proved(host, server, carried, connection.started, now)

    def forget(self, connection: Connection) -> None:
        self._opens_no_more(connection)
        if connection in self._parting:
            self._parting.remove(connection)
        elif self.connections.get(connection.key) is connection:
            del self.connections[connection.key]
        else:
            return
        self._room.leave(self._role.host(connection.key))

    def _learn(self, connection: Connection) -> str | None:
        """Why the connection is not bonded; None if it is."""
        experience = self._role.experience
        if experience is None:
            return None if connection.token is not None else self._role.plain
        host, _, server, _ = connection.key
        return experience.learn(host, server, connection.answer, connection.started, self.loop.now())

    def plain_leg(self, syn: Held, source: Address) -> socket.socket:
        """A server leg without Multipath TCP for a SYN that is held. Raises OSError.

        If possible it has the ``source`` of the first one: if that one's SYN was not lost, but the server is slow, the
        other box holds it and takes this one's for a copy.
        """
        segment = packet.parse(syn.payload)
        try:
            return self._server_leg(segment, transparent.TCP, source)
        except OSError:  # a port that the kernel has chosen may be shared with connections to other servers
            return self._server_leg(segment, transparent.TCP, self._role.source(segment))

    def release(self, connection: Connection, syn: Held) -> None:
        """Lets the SYN, or a copy of it, go to the listener."""
        if self._replay is None:
            self.queue.verdict(syn.id, ACCEPT, marks.combine(syn.mark, self._release_mark))
            return
        family = socket.AF_INET6 if ":" in connection.key[2] else socket.AF_INET
        try:
            self._replay.send(family, connection.key[2], packet.readdress(syn.payload, *connection.key[2:]))
        except (OSError, PacketError) as error:  # as if it had been lost on its way: there will be copies
            self.counters[f"not released: {error.strerror if isinstance(error, OSError) else error}"] += 1
        self.queue.verdict(syn.id, DROP, syn.mark)

    def failed(self, connection: Connection, syn: Held | None) -> None:
        self._complain(f"connection {connection.key} is reset, after a fault of ours", flow=connection.key)
        self.count("reset: fault of this program")
        self.forget(connection)
        if syn is not None:
            queued = QueuedPacket(syn.id, syn.mark, syn.device, syn.payload)
            self._pass(queued, packet.parse(syn.payload), "fault of this program", strip=self._role.strips)

    def _complain(self, text: str, **fields: object) -> None:
        """Where an exception has been caught."""
        now = self.loop.now()
        if now >= self._next_complaint:
            self._next_complaint = now + _COMPLAINT
            log.exception("%s", text, extra=about(**fields))

    def _opens_no_more(self, connection: Connection) -> None:
        if self._opening.get(connection.key) is connection:
            del self._opening[connection.key]
            self._room.opens_no_more(self._role.host(connection.key))

    # The queue

    def _on_queue(self, _events: int) -> None:
        for queued in self.queue.packets(_BATCH):
            self._take(queued)

    def _take(self, queued: QueuedPacket, tries: int = 0) -> None:
        """Packets come from anybody: one that meets a fault of ours costs itself and not the worker's connections."""
        try:
            self._on_packet(queued, tries)
        except Exception:
            self._complain("a packet in the queue is passed, after a fault of ours")
            self._pass(queued, None, "fault of this program")

    def _on_packet(self, queued: QueuedPacket, tries: int) -> None:
        try:
            syn = packet.parse(queued.payload)
        except PacketError:
            self._pass(queued, None, "unreadable packet")
            return
        role = self._role
        if not syn.is_syn:  # not forwarded yet, so no port forward has changed it
            self._on_reset(queued, syn, self.connections.get((syn.source, syn.sport, syn.destination, syn.dport)))
            return
        wanted = role.addressed(syn, queued.mark) if role.addressed else (syn.destination, syn.dport)
        key = (syn.source, syn.sport, *wanted)
        connection = self.connections.get(key)
        if connection is not None:
            connection.catch_up()  # its end may have come before this SYN, and wait for its turn
            connection = self.connections.get(key)
        reason = unfit(syn)
        if connection is not None and reason is None and connection.is_left(syn.seq):
            del self.connections[key]
            self._parting.add(connection)
            connection = None
        if connection is not None:
            if reason is None:
                connection.syn_again(queued, syn.seq, self.loop.now())
            else:  # no copy, whoever sent it
                self.count(f"dropped: {reason}, where a connection is")
                self.queue.verdict(queued.id, DROP, queued.mark)
            return
        decision = role.decide(syn, queued.device)
        if syn.family not in self._families:
            reason = reason or LACKS_FAMILY
        reason = reason or decision.passed
        if reason is None:
            host = role.host(key)
            reason = self._full(host) or self._avoid(syn) or self._hold(queued, syn, key, host, tries, decision)
        if reason is not None:
            self._pass(queued, syn, reason, strip=role.strips and not decision.untouched)

    def _on_reset(self, queued: QueuedPacket, reset: Segment, connection: Connection | None) -> None:
        """An RST that no open connection's leg is there for. Unless it ends here, our TCP or the server gets it."""
        held = connection is not None and connection.given_up(reset.seq)
        self.queue.verdict(queued.id, DROP if held else ACCEPT, marks.combine(queued.mark, 0))

    def _wait(self, queued: QueuedPacket, tries: int) -> bool:
        """Lets a SYN wait for its address pair; False if it has waited long enough, or too many do."""
        if tries == len(_AGAIN) or self._waiting >= _WAITING:
            return False
        self._waiting += 1
        self._put_off[queued.id] = queued
        self.loop.call_later(_AGAIN[tries], partial(self._wait_no_more, queued, tries + 1))
        return True

    def _wait_no_more(self, queued: QueuedPacket, tries: int) -> None:
        self._waiting -= 1
        self._look_again(queued, tries)

    def _look_again(self, queued: QueuedPacket, tries: int = 0) -> None:
        if self._put_off.get(queued.id) is queued:
            del self._put_off[queued.id]
            self._take(queued, tries)

    def _full(self, host: Hashable) -> str | None:
        """Why no further connection can be had now, or none of this host; None if one can."""
        return self._room.full(host) or (None if self._reserve.fill() else "no descriptors left")

    def _avoid(self, syn: Segment) -> str | None:
        experience = self._role.experience
        return experience.avoid(syn.source, syn.destination, self.loop.now()) if experience else None

    def _hold(
        self, queued: QueuedPacket, syn: Segment, key: Key, host: Hashable, tries: int, decision: Decision
    ) -> str | None:
        """Holds the SYN and tries the server; says why if that cannot even be tried."""
        server: socket.socket | None = None
        try:
            server = self._connect(syn)
        except OSError as error:
            reason = f"cannot connect: {error.strerror}"
            if error.errno != errno.EADDRNOTAVAIL:
                return reason
            if self._wait(queued, tries):
                return None
            if not self._is_busy(syn):
                return reason
        key = _shared(key)
        connection = Connection(self, key, queued, syn.seq, self.loop.now(), decision.policy)
        self.connections[key] = connection
        self._opening[key] = connection
        self._room.take(host)
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_later(_SWEEP, self._sweep)
        if server is not None:
            connection.connect(server)
        else:
            self.count("held: the last connection on these ports has not ended")
            self.loop.call_later(_FREE, partial(self._connect_when_free, connection, syn))
        return None

    def _server_leg(self, syn: Segment, protocol: int, source: Address) -> socket.socket:
        role = self._role
        return transparent.server_leg(
            syn.family,
            protocol,
            source,
            (syn.destination, syn.dport),
            role.server_mark,
            syn.dscp,
            role.flow_buffer,
        )

    def _connect(self, syn: Segment) -> socket.socket:
        """Raises OSError if it cannot even be tried."""
        return self._server_leg(syn, self._role.server_protocol, self._role.source(syn))

    def _is_busy(self, syn: Segment) -> bool:
        """Whether our leg of the last connection on these ports is still there: it has bytes that the server lacks.

        The client is through with it, since all has been acknowledged here. Passed on, the SYN would come to a server
        that has that connection, and the answer to that leg.
        """
        return sock_diag.is_alive(self._role.source(syn), (syn.destination, syn.dport))

    def _connect_when_free(self, connection: Connection, syn: Segment) -> None:
        if connection.state is not State.HELD:
            return
        if self._is_busy(syn):
            self.loop.call_later(_FREE, partial(self._connect_when_free, connection, syn))
            return
        try:
            server = self._connect(syn)
        except OSError:
            connection.handle(Event.EXPIRED)  # the client's next copy has a look of its own
        else:
            connection.started = self.loop.now()  # before, nothing can have been lost on its way
            connection.connect(server)

    def _pass(self, queued: QueuedPacket, syn: Segment | None, reason: str, *, strip: bool = False) -> None:
        self.counters[f"passed: {reason}"] += 1
        if syn is not None and told_in_full():
            tell((syn.source, syn.sport, syn.destination, syn.dport), f"passed: {reason}")
        payload = None
        if strip and syn is not None and not syn.signed:
            payload = packet.strip_mp_capable(queued.payload)
        self.queue.verdict(queued.id, ACCEPT, marks.combine(queued.mark, 0), payload)

    # The listeners

    def _on_listener(self, listener: socket.socket, waits: select.poll, _events: int) -> None:
        """``waits`` looks whether one more waits: accept() makes a file before it does, ten times the work."""
        for _ in range(_BATCH):
            try:
                client, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE) and self._reserve.spend():
                    continue
                if error.errno != errno.ECONNABORTED:
                    # No descriptor or memory left: what waits here goes on waiting, and must not keep us awake.
                    self._pause(listener, error)
                return
            self._on_client_leg(client, peer[:2])
            if not waits.poll(0):
                return

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        self.counters[f"accept: {error.strerror}"] += 1
        self.loop.remove(listener.fileno())
        self.loop.call_later(_PAUSE, partial(self._watch, listener))

    def _watch(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            waits = select.poll()
            waits.register(listener, select.POLLIN)
            self.loop.add(listener.fileno(), IN, partial(self._on_listener, listener, waits))

    def _on_client_leg(self, client: socket.socket, peer: Address) -> None:
        client.setblocking(False)
        try:
            wanted: Address = client.getsockname()[:2]
        except OSError:
            client.close()
            return
        connection = self.connections.get(peer + wanted)
        if connection is None or connection.state is not State.RELEASED:
            self.counters["reset: nobody waits for it"] += 1
            client.close()
            return
        try:
            connection.accepted(client)
        except Exception:
            client.close()
            connection.fail()

    def _sweep(self) -> None:
        now = self.loop.now()
        for connection in [it for it in self._opening.values() if it.deadline - self._haste(it) <= now]:
            released = connection.state is State.RELEASED
            self.count("reset: the client did not finish" if released else "refused: no answer")
            try:
                connection.handle(Event.EXPIRED)
            except Exception:
                connection.fail()
        self._sweeping = bool(self._opening)
        if self._sweeping:
            self.loop.call_later(_SWEEP, self._sweep)

    def _haste(self, connection: Connection) -> float:
        """Seconds that a half-open connection gets less because it is one of too many."""
        if not self._room.crowded(self._role.host(connection.key)):
            return 0.0
        return max(0.0, connection.lifetime - LIFETIME_IN_A_CROWD[connection.state])


def _shared(key: Key) -> Key:
    """With the very text of an address that other connections have: many hosts have many of them, for a long time."""
    client, cport, server, sport = key
    return sys.intern(client), cport, sys.intern(server), sport


def _guarded(connection: Connection, look: Callable[[], bool]) -> bool:
    """Whether there is more to look at."""
    try:
        return look()
    except Exception:
        connection.fail()
        return False


def unfit(syn: Segment) -> str | None:
    """Why this is no SYN that a box between client and server could answer; None if it is."""
    if syn.signed:
        return "signed segment"
    if syn.mp_join is not None:
        return "subflow of another connection"
    return None
