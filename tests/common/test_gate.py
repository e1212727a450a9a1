# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of packets in the queue that are no ordinary SYN, or that meet a fault."""

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from common import packet
from common.connection import Connection, Held, Key
from common.flow import Event, State
from common.gate import Gate, unfit
from common.loop import Loop
from common.nfqueue import ACCEPT, DROP, QueuedPacket
from common.packet import Segment
from common.relay import GIVE_WAY, Half
from common.role import Decision, Role
from common.room import Limits
from tests.running import PATIENCE, RunningLoop, until

JOIN = bytes.fromhex(
    "10020123456789abcdef"
)  # MP_JOIN of a SYN: flags, address id, token, nonce (RFC 8684, section 3.2)
CAPABLE = bytes.fromhex("0181")


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (("MSS", 1460), None),
        ((30, CAPABLE), None),
        (("MD5", bytes(16)), "signed segment"),
        ((29, bytes(14)), "signed segment"),
        ((30, JOIN), "subflow of another connection"),
    ],
    ids=["plain", "MP_CAPABLE", "MD5", "AO", "MP_JOIN"],
)
def test_unfit(option: tuple[Any, Any], why: str | None) -> None:
    header = TCP(sport=40000, dport=179, flags="S", options=[option])
    assert unfit(packet.parse(bytes(IP(src="192.0.2.10", dst="198.51.100.1") / header))) == why


class FakeQueue:
    """Packets in, verdicts out."""

    def __init__(self) -> None:
        self._ready = os.eventfd(0)
        self.waiting: list[QueuedPacket] = []
        self.verdicts: list[tuple[int, int]] = []

    def fileno(self) -> int:
        return self._ready

    def packets(self, _most: int) -> Iterator[QueuedPacket]:
        while self.waiting:
            yield self.waiting.pop(0)

    def verdict(self, packet_id: int, verdict: int, _mark: int, _payload: bytes | None = None) -> None:
        self.verdicts.append((packet_id, verdict))

    def put(self, number: int, data: bytes) -> None:
        self.waiting.append(QueuedPacket(number, 0, 0, data))
        os.eventfd_write(self._ready, 1)

    def close(self) -> None:
        os.close(self._ready)


class FakeConnection:
    since = 0.0

    def __init__(self) -> None:
        self.copies: list[int] = []
        self.events: list[Event] = []
        self.state = State.HELD

    def handle(self, event: Event) -> None:
        self.events.append(event)

    def catch_up(self) -> None:
        pass

    def is_left(self, _seq: int) -> bool:
        return False

    def syn_again(self, queued: QueuedPacket, _seq: int, _now: float) -> None:
        self.copies.append(queued.id)


KEY = ("192.0.2.10", 40000, "198.51.100.1", 179)


def syn(*options: Any) -> bytes:
    return bytes(IP(src=KEY[0], dst=KEY[2]) / TCP(sport=KEY[1], dport=KEY[3], flags="S", options=list(options)))


def gate(queue: Any, decide: Callable[[Segment, int], Decision], loop: Loop | None = None) -> tuple[Gate, Loop]:
    role = Role(
        socket.IPPROTO_TCP,
        socket.IPPROTO_TCP,
        decide,
        source=lambda it: (it.source, it.sport),
        host=lambda key: key[0],
        server_mark=0,
        strips=False,
        join_after=0,
        flow_buffer=0,
    )
    loop = loop or Loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return Gate(loop, role, queue, (listener,), 0, Limits(8, 8, 8, 8), lambda _token, _policy: None), loop


def test_a_signed_syn_is_no_copy_of_one_that_is_known() -> None:
    queue, connection = FakeQueue(), FakeConnection()
    tested, loop = gate(queue, lambda *_: Decision())
    tested.connections[KEY] = connection  # type: ignore[assignment]
    queue.put(1, syn())
    queue.put(2, syn(("MD5", bytes(16))))
    queue.put(3, syn((29, bytes(14))))
    loop.call_later(0, loop.stop)
    loop.run()
    assert connection.copies == [1]
    assert queue.verdicts == [(2, DROP), (3, DROP)]
    assert tested.counters == {"dropped: signed segment, where a connection is": 2}
    tested.close()


def test_what_is_held_goes_with_the_queue() -> None:
    held, released = FakeConnection(), FakeConnection()
    released.state = State.RELEASED
    tested, _ = gate(FakeQueue(), lambda *_: Decision())
    tested._opening = {KEY: held, (*KEY[:3], 80): released}  # type: ignore[dict-item]
    tested.close()
    assert held.events == [Event.EXPIRED]
    assert not released.events


def test_a_fault_costs_the_packet_that_meets_it(caplog: pytest.LogCaptureFixture) -> None:
    def decide(_syn: Segment, _device: int) -> Decision:
        if not queue.verdicts[2:]:
            raise ZeroDivisionError
        return Decision("later")

    queue = FakeQueue()
    tested, loop = gate(queue, decide)
    for number in range(4):
        queue.put(number, syn())
    loop.call_later(0, loop.stop)
    loop.run()
    assert queue.verdicts == [(number, ACCEPT) for number in range(4)]
    assert tested.counters == {"passed: fault of this program": 3, "passed: later": 1}
    assert [record.exc_info is not None for record in caplog.records] == [True]  # not one for each
    tested.close()


class Legs:
    """A connection of ordinary sockets, with its client and its server."""

    def __init__(self, tested: Gate, key: Key) -> None:
        self.client, self.client_leg = socket.socketpair()
        self.server_leg, self.server = socket.socketpair()
        self.client.settimeout(PATIENCE)
        self.server.settimeout(PATIENCE)
        for leg in (self.client_leg, self.server_leg):
            leg.setblocking(False)
        self._connection = Connection(tested, key, QueuedPacket(key[1], 0, 0, syn()), 0, 0.0)
        tested.connections[key] = tested._opening[key] = self._connection
        tested._room.take(key[0])

    def connect(self) -> None:
        self._connection.connect(self.server_leg)

    def open(self) -> None:
        self.connect()
        self._connection.handle(Event.CONNECTED)
        self._connection.accepted(self.client_leg)

    def close(self) -> None:
        self._connection.handle(Event.BROKEN)
        self.client.close()
        self.server.close()


def test_who_makes_room_takes_nothing_along(running: RunningLoop) -> None:
    """A connection that is still to deliver ends while the next one on its ports waits."""
    tested, _ = gate(FakeQueue(), lambda *_: Decision(), running.loop)
    old = Legs(tested, KEY)
    running.call(old.open)
    tested._parting.add(tested.connections.pop(KEY))
    new = Legs(tested, KEY)
    waiting = tested.connections[KEY]
    running.call(old.close)
    assert running.call(tested.all) == [waiting]
    assert tested._opening == {KEY: waiting}
    running.call(tested.close)
    for sock in (new.client, new.client_leg, new.server_leg, new.server):
        sock.close()


def ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1)
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("turns", [0, 3])
def test_a_fault_costs_the_connection_that_meets_it(
    running: RunningLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, turns: int
) -> None:
    """Whether it comes when a leg wakes the connection, or when the connection has its turn again."""
    tested, _ = gate(FakeQueue(), lambda *_: Decision(), running.loop)
    bad, good = (Legs(tested, (*KEY[:1], port, *KEY[2:])) for port in (1, 2))
    running.call(bad.open)
    running.call(good.open)
    moved, moves = Half.move, []

    def move(half: Half) -> int:
        if half.source is not bad.client_leg:
            return moved(half)
        moves.append(half)
        if len(moves) > turns:
            raise ZeroDivisionError
        return GIVE_WAY

    monkeypatch.setattr(Half, "move", move)
    bad.client.send(b"x")
    assert ended(bad.client)
    assert ended(bad.server)
    good.client.send(b"x")
    assert good.server.recv(1) == b"x"
    assert len(moves) == turns + 1
    assert running.call(lambda: list(tested.connections)) == [(KEY[0], 2, *KEY[2:])]
    assert tested.counters["reset: fault of this program"] == 1
    assert [record.exc_info is not None for record in caplog.records] == [True]
    running.call(good.close)
    running.call(tested.close)
    for sock in (bad.client, bad.server):
        sock.close()


def test_a_fault_lets_the_syn_pass_that_is_held(running: RunningLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue()
    tested, _ = gate(queue, lambda *_: Decision(), running.loop)

    def release(_connection: Connection, _syn: Held) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tested, "release", release)
    legs = Legs(tested, KEY)
    running.call(legs.connect)
    assert ended(legs.server)
    until(lambda: queue.verdicts == [(KEY[1], ACCEPT)])
    assert not running.call(lambda: dict(tested.connections))
    assert tested.counters == {"reset: fault of this program": 1, "passed: fault of this program": 1}
    running.call(tested.close)
    for sock in (legs.client, legs.client_leg, legs.server):
        sock.close()


def test_an_address_family_without_a_listener_passes() -> None:
    queue = FakeQueue()
    tested, loop = gate(queue, lambda *_: Decision())
    header = IPv6(src="2001:db8::1", dst="2001:db8:1::1") / TCP(sport=40000, dport=80, flags="S")
    queue.put(1, bytes(header))
    loop.call_later(0, loop.stop)
    loop.run()
    assert queue.verdicts == [(1, ACCEPT)]
    assert tested.counters == {"passed: this box lacks the address family": 1}
    tested.close()


def test_a_queue_that_has_ended_leaves_nothing_behind_that_would_meet_others_packets() -> None:
    queue = FakeQueue()
    tested, loop = gate(queue, lambda *_: Decision())
    held, released, unreleased = (FakeConnection() for _ in range(3))
    released.state = unreleased.state = State.RELEASED
    released.since, unreleased.since = 99.9, 100.1
    three = (held, released, unreleased)
    tested._opening = {(*KEY[:3], port): it for port, it in enumerate(three)}  # type: ignore[misc]
    queue.put(7, syn())
    tested._wait(QueuedPacket(6, 0, 0, syn()), 0)
    tested.queue_ended(since=100.0)
    assert [it.events for it in three] == [[Event.EXPIRED], [], [Event.EXPIRED]]
    assert queue.verdicts == [(7, DROP)]
    queue.put(6, syn(("MD5", bytes(16))))
    loop.call_later(0.05, loop.stop)  # longer than a SYN waits for its address pair the first time
    loop.run()
    assert queue.verdicts == [(7, DROP), (6, ACCEPT)]
    tested._opening = {}
    tested.close()
