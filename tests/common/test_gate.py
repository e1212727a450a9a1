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
from common.flow import Event, State
from common.gate import Decision, Gate, Role, unfit
from common.loop import Loop
from common.nfqueue import ACCEPT, DROP, QueuedPacket
from common.packet import Segment
from common.room import Limits

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


def gate(queue: Any, decide: Callable[[Segment, int], Decision]) -> tuple[Gate, Loop]:
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
    loop = Loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return Gate(loop, role, queue, (listener,), 0, Limits(8, 8, 8, 8), lambda _token: None), loop


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
