# SPDX-License-Identifier: GPL-2.0-or-later
"""A real queue with real packets: UDP over loopback, held by iptables' NFQUEUE."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from common.nfqueue import ACCEPT, DROP, Queue, QueuedPacket, QueueError
from lab.errors import LabError
from lab.netns import Namespace
from tests.running import until

pytestmark = pytest.mark.root

NUMBER = 5
SO_RCVMARK = 75  # asks for it; what comes is of type SO_MARK
PROC = "/proc/net/netfilter/nfnetlink_queue"
HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class Line:
    """A UDP sender and a receiver; what goes between them goes to queue NUMBER."""

    def __init__(self, namespace: Namespace, family: int = socket.AF_INET) -> None:
        self.receiver = socket.socket(family, socket.SOCK_DGRAM)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        self.receiver.bind((HOSTS[socket.AddressFamily(family)], 0))
        self.receiver.settimeout(0)
        self.sender = socket.socket(family, socket.SOCK_DGRAM)
        self.sender.connect(self.receiver.getsockname()[:2])
        program = "iptables" if family == socket.AF_INET else "ip6tables"
        rule = f"-t mangle -A PREROUTING -p udp -j NFQUEUE --queue-num {NUMBER} --queue-bypass"
        try:
            namespace.run([program, "-w", *rule.split()])
        except LabError as error:
            pytest.skip(f"no netfilter queue here: {error}")

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()

    def send(self, *texts: str) -> None:
        for text in texts:
            self.sender.send(text.encode())

    def arrived(self) -> list[str]:
        """What has arrived since the last call; over loopback that is so when send() or a verdict returns."""
        return [text for text, _ in self.arrived_marked()]

    def arrived_marked(self) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        while True:
            try:
                data, ancillary, _, _ = self.receiver.recvmsg(2000, 200)
            except BlockingIOError:
                return found
            mark = next((int.from_bytes(value, "little") for _, kind, value in ancillary if kind == socket.SO_MARK), 0)
            found.append((data.decode(), mark))


@pytest.fixture
def line(namespace: Namespace) -> Iterator[Line]:
    with closing(Line(namespace)) as line:
        yield line


@pytest.fixture
def queue(line: Line) -> Iterator[Queue]:
    with closing(Queue(NUMBER)) as queue:
        yield queue


def dissected(packet: QueuedPacket) -> Packet:
    return (IP if packet.payload[0] >> 4 == 4 else IPv6)(packet.payload)


def text(packet: QueuedPacket) -> str:
    return bytes(dissected(packet)[UDP].payload).decode()


def with_text(packet: QueuedPacket, text: str) -> bytes:
    """The packet with another text in it, its lengths and sums mended."""
    changed = dissected(packet)
    changed[UDP].remove_payload()
    changed[UDP].add_payload(text.encode())
    del changed[IP].len, changed[IP].chksum, changed[UDP].len, changed[UDP].chksum
    return bytes(changed)


def test_a_packet_waits_for_the_verdict(line: Line, queue: Queue) -> None:
    line.send("hello")
    assert line.arrived() == []
    (packet,) = queue.packets(64)
    assert dissected(packet)[IP].dst == "127.0.0.1"
    assert dissected(packet)[UDP].dport == line.receiver.getsockname()[1]
    assert text(packet) == "hello"
    assert packet.device == socket.if_nametoindex("lo")
    assert line.arrived() == []
    queue.verdict(packet.id, ACCEPT, packet.mark)
    assert line.arrived() == ["hello"]
    assert list(queue.packets(64)) == []


def test_ipv6(namespace: Namespace) -> None:
    with closing(Line(namespace, socket.AF_INET6)) as line, closing(Queue(NUMBER)) as queue:
        line.send("hello")
        (packet,) = queue.packets(64)
        assert dissected(packet)[IPv6].dst == "::1"
        queue.verdict(packet.id, ACCEPT, 0)
        assert line.arrived() == ["hello"]


def test_drop(line: Line, queue: Queue) -> None:
    line.send("one", "two")
    one, two = queue.packets(64)
    queue.verdict(one.id, DROP, 0)
    queue.verdict(two.id, ACCEPT, 0)
    assert line.arrived() == ["two"]


def test_verdicts_in_any_order(line: Line, queue: Queue) -> None:
    line.send("one", "two", "three")
    packets = list(queue.packets(64))
    assert [text(packet) for packet in packets] == ["one", "two", "three"]
    for packet in reversed(packets):
        queue.verdict(packet.id, ACCEPT, 0)
    assert line.arrived() == ["three", "two", "one"]


def test_the_mark_comes_in_and_goes_out(line: Line, queue: Queue) -> None:
    line.sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x48ABCDEF)
    line.send("one", "two")
    one, two = queue.packets(64)
    assert one.mark == two.mark == 0x48ABCDEF
    queue.verdict(one.id, ACCEPT, 0x60ABCDEF)
    queue.verdict(two.id, ACCEPT, 0)
    assert line.arrived_marked() == [("one", 0x60ABCDEF), ("two", 0)]


@pytest.mark.parametrize(
    "changed", ["HELLO", "shorter", "x", "of a length that needs two octets of padding: " + "y" * 700]
)
def test_other_bytes_in_its_place(line: Line, queue: Queue, changed: str) -> None:
    line.send("hello")
    (packet,) = queue.packets(64)
    queue.verdict(packet.id, ACCEPT, 0x60000000, with_text(packet, changed))
    assert line.arrived_marked() == [(changed, 0x60000000)]


def test_a_large_packet_comes_whole(line: Line, queue: Queue) -> None:
    line.send("z" * 1400)
    (packet,) = queue.packets(64)
    assert text(packet) == "z" * 1400


def test_many_packets(line: Line, queue: Queue) -> None:
    numbers = [str(number) for number in range(1000)]
    line.send(*numbers)
    packets = list(queue.packets(64))
    assert len(packets) == 64  # whoever else is in the loop has his turn
    packets += queue.packets(len(numbers))
    assert [text(packet) for packet in packets] == numbers
    assert len({packet.id for packet in packets}) == 1000
    for number, packet in enumerate(packets):
        queue.verdict(packet.id, ACCEPT, 0)
        if number % 100 == 99:
            assert len(line.arrived()) == 100


def test_a_full_queue_lets_packets_pass(line: Line) -> None:
    with closing(Queue(NUMBER, capacity=2)) as queue:
        line.send("one", "two", "three", "four")
        assert line.arrived() == ["three", "four"]
        for packet in queue.packets(64):
            queue.verdict(packet.id, ACCEPT, 0)
        assert line.arrived() == ["one", "two"]
        line.send("five")
        assert line.arrived() == []


def test_a_closed_queue_lets_packets_pass(line: Line) -> None:
    queue = Queue(NUMBER)
    line.send("in the queue")
    queue.close()
    line.send("later")
    until(lambda: not has_queue())
    assert line.arrived() == ["later"]


def test_a_withdrawn_queue_lets_packets_pass_and_comes_back_with_the_same_numbers(line: Line, queue: Queue) -> None:
    line.send("old", "unread")
    (old,) = queue.packets(1)
    queue.withdraw()
    until(lambda: not has_queue())
    assert list(queue.packets(64)) == []
    line.send("meanwhile")
    assert line.arrived() == ["meanwhile"]
    queue.restore()
    line.send("new")
    (new,) = queue.packets(64)
    assert text(new) == "new"
    assert new.id == old.id, "or nobody need begin anew, see common/pulse.py"
    queue.verdict(new.id, ACCEPT, 0)
    assert line.arrived() == ["new"]


def test_a_verdict_on_a_packet_that_does_not_wait_harms_nothing(line: Line, queue: Queue) -> None:
    queue.verdict(4711, ACCEPT, 0)
    line.send("hello")
    (packet,) = queue.packets(64)
    queue.verdict(packet.id, ACCEPT, 0)
    queue.verdict(packet.id, ACCEPT, 0)
    assert line.arrived() == ["hello"]
    line.send("again")
    assert [text(packet) for packet in queue.packets(64)] == ["again"]


@pytest.mark.usefixtures("queue")
def test_a_queue_that_another_has() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(QueueError) as caught:
        Queue(NUMBER)
    assert caught.value.errno in (errno.EPERM, errno.EBUSY)
    assert os.listdir("/proc/self/fd") == before
    Queue(NUMBER + 1).close()


def test_a_queue_can_be_had_again(line: Line) -> None:
    for _ in range(3):
        with closing(Queue(NUMBER)) as queue:
            line.send("hello")
            assert len(list(queue.packets(64))) == 1


@pytest.mark.usefixtures("queue")
def test_packets_are_copied_whole() -> None:
    """Columns of the kernel's table: queue, owner, waiting, copy mode (2: packets), bytes of each, ..."""
    with open(PROC) as table:
        (row,) = [row.split() for row in table]
    assert row[0] == str(NUMBER)
    assert row[3:5] == ["2", "65531"]


def has_queue() -> bool:
    with open(PROC) as table:
        return any(row.split()[0] == str(NUMBER) for row in table)
