# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages over a stream: whole ones arrive once and in order, the end is told once."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from common.channel import Channel, Message
from tests.running import PATIENCE, RunningLoop, until

Listen = Callable[..., "Listener"]


class Listener:
    """A channel in the running loop, what it has heard, and the other end of its socket."""

    def __init__(self, running: RunningLoop, **options: int) -> None:
        self.running = running
        self.heard: list[Message] = []
        self.ends = 0
        ours, self.peer = socket.socketpair()
        self.peer.settimeout(PATIENCE)
        self.channel = running.call(lambda: Channel(running.loop, ours, self.on_message, self.on_end, **options))

    def on_message(self, message: Message) -> None:
        self.heard.append(message)

    def on_end(self) -> None:
        self.ends += 1

    def send(self, message: Message) -> None:
        self.running.call(lambda: self.channel.send(message))

    def close(self) -> None:
        self.running.call(self.channel.close)
        self.peer.close()


@pytest.fixture
def listen(running: RunningLoop) -> Iterator[Listen]:
    made: list[Listener] = []

    def make(**options: int) -> Listener:
        made.append(Listener(running, **options))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


def line(message: Message) -> bytes:
    return json.dumps(message).encode() + b"\n"


def read_lines(peer: socket.socket, count: int) -> list[Message]:
    with peer.makefile("rb") as stream:
        return [json.loads(stream.readline()) for _ in range(count)]


def test_a_message_in_pieces(listen: Listen) -> None:
    listener = listen()
    for octet in line({"text": "grüße\nzeile", "n": [1, None, True]}):
        listener.peer.send(bytes([octet]))
    until(lambda: listener.heard)
    assert listener.heard == [{"text": "grüße\nzeile", "n": [1, None, True]}]


def test_several_messages_in_one_piece(listen: Listen) -> None:
    listener = listen()
    listener.peer.send(line({"n": 1}) + line({"n": 2}) + line({"n": 3})[:-1])
    until(lambda: len(listener.heard) == 2)
    listener.peer.send(b"\n")
    until(lambda: len(listener.heard) == 3)
    assert listener.heard == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_more_than_the_other_end_takes_at_once(listen: Listen) -> None:
    """What the socket does not take waits, and order is kept."""
    listener = listen()
    sent = [{"n": n, "text": "x" * 100_000} for n in range(40)]
    for message in sent:
        listener.send(message)
    assert read_lines(listener.peer, len(sent)) == sent


def test_what_was_sent_before_the_end_is_heard(listen: Listen) -> None:
    listener = listen()
    listener.peer.sendall(b"".join(line({"n": n}) for n in range(1000)))
    listener.peer.close()
    until(lambda: listener.ends)
    assert [message["n"] for message in listener.heard] == list(range(1000))
    assert listener.ends == 1


def test_half_a_message_before_the_end_is_not(listen: Listen) -> None:
    listener = listen()
    listener.peer.send(line({"n": 1}) + b'{"n": 2}')
    listener.peer.close()
    until(lambda: listener.ends)
    assert listener.heard == [{"n": 1}]


@pytest.mark.parametrize(
    "nonsense", [b"nonsense\n", b"[1]\n", b"\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b'"text"\n']
)
def test_nonsense_ends_the_channel(listen: Listen, nonsense: bytes) -> None:
    listener = listen()
    listener.peer.sendall(line({"n": 1}) + nonsense + line({"n": 2}))
    until(lambda: listener.ends)
    assert listener.heard == [{"n": 1}]
    assert listener.peer.recv(1) == b""
    assert listener.ends == 1
    listener.send({"n": 3})  # nothing happens


def test_a_message_that_is_too_long_ends_the_channel(listen: Listen) -> None:
    listener = listen(longest=1000)
    listener.peer.sendall(b"x" * 2000)
    until(lambda: listener.ends)
    assert listener.heard == []
    assert not listener.channel.open


def test_many_short_messages_are_not_one_that_is_too_long(listen: Listen) -> None:
    listener = listen(longest=1000)
    listener.peer.sendall(line({"n": 1}) * 500)
    until(lambda: len(listener.heard) == 500)
    listener.peer.sendall(line({"n": 2}))
    until(lambda: len(listener.heard) == 501)
    assert listener.ends == 0


def test_close_is_not_told_as_an_end(listen: Listen) -> None:
    listener = listen()
    listener.running.call(listener.channel.close)
    listener.running.call(listener.channel.close)
    assert listener.peer.recv(1) == b""
    assert listener.ends == 0


def test_nothing_is_heard_after_close(listen: Listen, running: RunningLoop) -> None:
    listener = listen()
    listener.on_message = None  # type: ignore[assignment]
    heard: list[Message] = []

    def hear(message: Message) -> None:
        heard.append(message)
        listener.channel.close()

    ours, peer = socket.socketpair()
    listener.channel = running.call(lambda: Channel(running.loop, ours, hear, listener.on_end))
    with peer:
        peer.sendall(line({"n": 1}) + line({"n": 2}))
        until(lambda: not listener.channel.open)
    assert heard == [{"n": 1}]
    assert listener.ends == 0


def test_sending_to_somebody_who_has_gone(listen: Listen) -> None:
    listener = listen()
    listener.peer.close()
    listener.send({"text": "x" * 1_000_000})
    until(lambda: listener.ends)
    listener.send({"n": 1})
    assert listener.ends == 1
