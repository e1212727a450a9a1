# SPDX-License-Identifier: GPL-2.0-or-later
"""The event loop: who is called, when, and who is not."""

import os
import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from common.loop import EDGE, IN, OUT, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def test_a_handler_gets_its_events(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    seen: list[int] = []

    def on_event(events: int) -> None:
        seen.append(events)
        loop.stop()

    loop.add(pair[0].fileno(), IN | OUT, on_event)
    pair[1].send(b"x")
    loop.run()
    assert seen == [IN | OUT]


def test_a_replaced_handler_is_not_called(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    seen: list[str] = []
    loop.add(pair[0].fileno(), OUT, lambda _: seen.append("old"))

    def new(_events: int) -> None:
        seen.append("new")
        loop.stop()

    loop.replace(pair[0].fileno(), new)
    loop.run()
    assert seen == ["new"]


def test_a_handler_removed_by_another_one_of_the_same_batch_is_not_called(loop: Loop) -> None:
    ones, others = socket.socketpair(), socket.socketpair()
    seen: list[int] = []

    def remove_the_other(mine: socket.socket, other: socket.socket) -> None:
        seen.append(mine.fileno())
        loop.remove(other.fileno())
        loop.stop()

    with ones[0], ones[1], others[0], others[1]:
        loop.add(ones[0].fileno(), OUT, lambda _: remove_the_other(ones[0], others[0]))
        loop.add(others[0].fileno(), OUT, lambda _: remove_the_other(others[0], ones[0]))
        loop.run()
    assert len(seen) == 1


def test_a_descriptor_with_the_number_of_one_just_closed_gets_none_of_its_events(loop: Loop) -> None:
    """Under load a batch holds events of descriptors that its first handlers close, and whose numbers they use again.

    A new connection's socket that is told that it is writable before it is connected would pass for connected.
    """
    ones, others = socket.socketpair(), socket.socketpair()
    stale: list[int] = []
    silent: list[socket.socket] = []

    def take_the_number(other: socket.socket) -> None:
        if silent:
            return
        number = other.fileno()
        loop.forget(number)
        other.close()
        reborn, peer = socket.socketpair()
        silent.extend((reborn, peer))
        assert number in (reborn.fileno(), peer.fileno())
        loop.add(number, IN | EDGE, stale.append)  # nothing was ever sent to it
        loop.call_later(0.02, loop.stop)

    loop.add(ones[0].fileno(), IN | EDGE, lambda _: take_the_number(others[0]))
    loop.add(others[0].fileno(), IN | EDGE, lambda _: take_the_number(ones[0]))
    ones[1].send(b"x")
    others[1].send(b"x")
    loop.run()
    for sock in (*ones, *others, *silent):
        sock.close()
    assert stale == []


def test_forget_leaves_nothing_behind(loop: Loop) -> None:
    left, right = socket.socketpair()
    number = left.fileno()
    loop.add(number, IN, lambda _: pytest.fail("called for a closed descriptor"))
    right.send(b"x")
    loop.forget(number)
    left.close()
    again = socket.socket()  # takes the lowest free number
    assert again.fileno() == number
    loop.add(number, IN, lambda _: None)  # would raise if the old registration were there
    right.close()
    again.close()


def test_remove_twice(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    loop.add(pair[0].fileno(), IN, lambda _: None)
    loop.remove(pair[0].fileno())
    loop.remove(pair[0].fileno())


def test_timers_in_the_order_of_their_time(loop: Loop) -> None:
    seen: list[str] = []
    start = loop.now()
    loop.call_at(start + 0.03, loop.stop)
    loop.call_at(start + 0.02, lambda: seen.append("third"))
    loop.call_at(start, lambda: seen.append("first"))
    loop.call_at(start + 0.02, lambda: seen.append("fourth"))
    loop.call_at(start + 0.01, lambda: seen.append("second"))
    loop.run()
    assert seen == ["first", "second", "third", "fourth"]
    assert loop.now() >= start + 0.03


def test_a_cancelled_timer_is_not_called(loop: Loop) -> None:
    seen: list[str] = []
    first = loop.call_later(0.0, lambda: seen.append("cancelled before"))
    late = loop.call_later(0.001, lambda: seen.append("cancelled by another timer"))
    loop.call_later(0.0, late.cancel)
    loop.call_later(0.002, loop.stop)
    first.cancel()
    loop.run()
    assert seen == []


def test_a_timer_may_set_the_next(loop: Loop) -> None:
    seen: list[int] = []

    def tick() -> None:
        seen.append(len(seen))
        if len(seen) == 3:
            loop.stop()
        else:
            loop.call_later(0, tick)

    loop.call_later(0, tick)
    loop.run()
    assert seen == [0, 1, 2]


def test_call_soon_gives_way_to_other_descriptors(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    """Work that asks for another turn for ever does not keep a descriptor waiting."""
    turns = 0

    def work() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            pair[1].send(b"x")
        if turns < 100:
            loop.call_soon(work)

    def on_event(_events: int) -> None:
        loop.stop()

    loop.add(pair[0].fileno(), IN, on_event)
    loop.call_soon(work)
    loop.run()
    assert turns == 4  # the turn of the batch that ended the loop is still taken


def test_stop_before_run(loop: Loop) -> None:
    loop.call_soon(lambda: pytest.fail("ran"))
    loop.stop()
    loop.run()
    assert loop.failure is None


def test_the_first_failure_is_the_reason(loop: Loop) -> None:
    loop.stop("one")
    loop.stop("two")
    loop.stop()
    assert loop.failure == "one"


@pytest.fixture
def _handlers() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
def test_signals_are_delivered_by_the_loop(loop: Loop) -> None:
    seen: list[str] = []
    loop.on_signal(signal.SIGUSR1, lambda: seen.append("usr1"))
    loop.on_signal(signal.SIGUSR2, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert seen == []  # before run() nobody is called
    os.kill(os.getpid(), signal.SIGUSR2)
    loop.run()
    assert seen == ["usr1"]


@pytest.mark.usefixtures("_handlers")
def test_close_leaves_no_wakeup_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    loop = Loop()
    loop.on_signal(signal.SIGUSR1, loop.stop)
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.usefixtures("_handlers")
def test_signals_that_one_loop_has_not_delivered_are_the_next_ones(loop: Loop) -> None:
    seen: list[str] = []
    former = Loop()
    former.on_signal(signal.SIGUSR1, lambda: seen.append("by the former loop"))
    former.on_signal(signal.SIGUSR2, former.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    former.close()
    os.kill(os.getpid(), signal.SIGUSR2)
    loop.on_signal(signal.SIGUSR1, lambda: seen.append("usr1"))
    loop.on_signal(signal.SIGUSR1, lambda: seen.append("once"))
    loop.on_signal(signal.SIGUSR2, loop.stop)
    loop.call_later(1.0, lambda: loop.stop("nobody has told it"))
    loop.run()
    assert (seen, loop.failure) == (["once"], None)


@pytest.mark.usefixtures("_handlers")
def test_a_process_that_is_forked_gets_no_signals_of_its_parent(loop: Loop) -> None:
    loop.on_signal(signal.SIGUSR1, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    pid = os.fork()
    if pid == 0:
        mine = Loop()
        mine.on_signal(signal.SIGUSR1, lambda: os._exit(1))
        mine.call_later(0.01, lambda: os._exit(0))
        mine.run()
    assert os.waitpid(pid, 0)[1] == 0
    loop.run()


def test_without_a_guard_a_fault_ends_it(loop: Loop) -> None:
    loop.call_soon(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run()


def test_what_fails_is_told_and_the_rest_goes_on(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    told: list[str] = []
    done: list[str] = []
    loop.survive(lambda: told.append(sys.exc_info()[0].__name__))

    def on_event(_events: int) -> None:
        loop.remove(pair[0].fileno())
        raise KeyError

    def at_intervals() -> None:
        done.append("tried")
        if len(done) == 1:
            raise ZeroDivisionError
        loop.stop()

    loop.add(pair[0].fileno(), OUT, on_event)
    loop.call_soon(lambda: [][0])
    loop.call_later(0.01, at_intervals)
    loop.run()
    assert sorted(told) == ["IndexError", "KeyError", "ZeroDivisionError"]
    assert done == ["tried", "tried"]


def test_a_failed_timer_can_be_cancelled(loop: Loop) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        loop.call_soon(timer.cancel)
        loop.call_later(1.1, loop.stop)
        raise ValueError

    loop.survive(lambda: None)
    timer = loop.call_later(0, fail)
    loop.run()
    assert calls == [1]


def test_faults_without_end_do_end_it(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    told: list[int] = []

    def on_event(_events: int) -> None:
        raise ValueError

    loop.survive(lambda: told.append(1))
    loop.add(pair[0].fileno(), OUT, on_event)
    with pytest.raises(ValueError):  # noqa: PT011 - it has no words
        loop.run()
    assert len(told) == 99
