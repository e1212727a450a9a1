# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a flow: transcripts, and the table as a whole.

A line of a transcript is an event (>>), an action (<<) or the state that it leads to (==).
"""

import errno
from collections.abc import Iterator
from itertools import pairwise

import pytest

from common import marks
from common.flow import (
    LIFETIME,
    LOST_AFTER,
    TRANSITIONS,
    Action,
    Event,
    FlowError,
    Refusal,
    State,
    held_for,
    refusal,
    step,
)

OPEN_STATES = (State.RELEASED, State.OPEN, State.HALF_UP, State.HALF_DOWN)
SYN_DECISIONS = (Action.RELEASE_SYN, Action.REFUSE_SYN, Action.DROP_SYN, Action.TAKE_SYN)
LAST = (Action.CLOSE, Action.RESET)

# The events of each state besides the client's copies of its SYN.
EVENTS = {
    "held": "otherwise lost gave-up connected connect-failed expired",
    "released": "gave-up accepted expired",
    "open": "up-ended down-ended broken",
    "half-up": "down-ended broken",
    "half-down": "up-ended broken",
    "closed": "",
}


def play(*lines: str) -> None:
    """Feeds a new flow the transcript's events and compares what the whole transcript then is."""
    state, heard = State.HELD, []
    for line in lines:
        if line.startswith(">> "):
            state, actions = step(state, Event(line[3:]))
            heard += [line, *(f"<< {action.value}" for action in actions)]
        elif line.startswith("== "):
            heard.append(f"== {state.value}")
    assert heard == list(lines)


def lives(state: State = State.HELD) -> Iterator[tuple[tuple[Event, ...], tuple[Action, ...]]]:
    """Every way from ``state`` to the end, without copies of the SYN: its events and its actions."""
    if state is State.CLOSED:
        yield (), ()
    for event, (following, actions) in TRANSITIONS[state].items():
        if following is not state:
            for events, more in lives(following):
                yield (event, *events), (*actions, *more)


def test_client_ends_first() -> None:
    play(
        ">> connected",
        "<< release-syn",
        "== released",
        ">> accepted",
        "<< relay",
        "== open",
        ">> up-ended",
        "<< end-server",
        "== half-up",
        ">> down-ended",
        "<< end-client",
        "<< close",
        "== closed",
    )


def test_server_ends_first() -> None:
    play(
        ">> connected",
        "<< release-syn",
        ">> accepted",
        "<< relay",
        ">> down-ended",
        "<< end-client",
        "== half-down",
        ">> up-ended",
        "<< end-server",
        "<< close",
        "== closed",
    )


def test_refused_by_the_server() -> None:
    play(">> connect-failed", "<< refuse-syn", "<< reset", "== closed")


def test_server_never_answers() -> None:
    play(
        ">> syn-copy",
        "<< hold-copy",
        ">> syn-copy",
        "<< hold-copy",
        ">> expired",
        "<< drop-syn",
        "<< reset",
        "== closed",
    )


def test_syns_with_the_option_are_lost_and_one_without_is_answered() -> None:
    play(
        ">> syn-copy",
        "<< hold-copy",
        ">> syn-copy",
        "<< hold-copy",
        ">> lost",
        "<< try-plain",
        "== held",
        ">> connected",
        "<< release-syn",
        "== released",
    )


def test_one_without_the_option_is_not_answered_either() -> None:
    play(">> syn-copy", "<< hold-copy", ">> lost", "<< try-plain", ">> expired", "<< drop-syn", "<< reset", "== closed")


@pytest.mark.parametrize(
    ("copies", "number"),
    [
        ((1, 3, 7), 2),  # RFC 6298
        ((1, 2, 3, 4, 6), 3),  # Linux since 6.5
        ((3, 9, 21), 1),  # RFC 2988
    ],
)
def test_the_copy_after_three_seconds_shows_that_syns_are_lost(copies: tuple[float, ...], number: int) -> None:
    earlier = 0.010  # that a copy may come, if its way was shorter
    assert [copy - earlier >= LOST_AFTER for copy in copies].index(True) == number - 1


def test_client_gives_up_while_its_syn_is_held() -> None:
    play(">> syn-copy", "<< hold-copy", ">> gave-up", "<< drop-syn", "<< reset", "== closed")


def test_client_has_given_up_when_the_answer_comes() -> None:
    play(">> connected", "<< release-syn", "== released", ">> gave-up", "<< reset", "== closed")


@pytest.mark.parametrize(
    ("copies", "seconds"),
    [
        ((), 4.0),
        ((1,), 3.5),  # sent at 0 and 1 s: the next one is due at 3 s
        ((1, 2, 3, 4), 6.5),  # Linux since 6.5: the first four gaps are the same
        ((1, 3, 7), 17.0),
        ((1, 3, 7, 15, 31), 71.0),
    ],
)
def test_a_held_syn_is_forgotten_when_no_copy_comes_in_time(copies: tuple[float, ...], seconds: float) -> None:
    sent = (0.0, 0.0, *copies)
    assert sent[-1] + held_for(sent[-1] - sent[-2]) == seconds
    for before, last in pairwise(copies):
        assert held_for(last - before) > 2 * (last - before)  # the next copy, of a client that doubles the gap


def test_the_way_to_the_server_has_changed_while_its_syn_is_held() -> None:
    play(">> syn-copy", "<< hold-copy", ">> otherwise", "<< take-syn", "<< reset", "== closed")


def test_client_goes_away_before_it_has_finished_its_handshake() -> None:
    play(">> connected", "<< release-syn", ">> expired", "<< reset", "== closed")


@pytest.mark.parametrize("before", [(), ("up-ended",), ("down-ended",)])
def test_a_broken_leg_breaks_the_other_whatever_has_ended_already(before: tuple[str, ...]) -> None:
    state = State.OPEN
    for event in before:
        state, _ = step(state, Event(event))
    assert step(state, Event.BROKEN) == (State.CLOSED, (Action.RESET,))


def test_copies_of_the_syn_while_it_is_held_and_after() -> None:
    play(
        ">> syn-copy",
        "<< hold-copy",
        "== held",
        ">> connected",
        "<< release-syn",
        ">> syn-copy",
        "<< copy-to-listener",
        "== released",
        ">> accepted",
        "<< relay",
        ">> syn-copy",
        "<< copy-to-listener",
        "== open",
        ">> up-ended",
        "<< end-server",
        ">> syn-copy",
        "<< copy-to-listener",
        "== half-up",
    )


# The table as a whole


@pytest.mark.parametrize("state", State)
def test_each_state_has_its_events_and_no_other(state: State) -> None:
    legal = {Event(name) for name in EVENTS[state.value].split()}
    if state is not State.CLOSED:
        legal.add(Event.SYN_COPY)
    assert set(TRANSITIONS[state]) == legal
    for event in set(Event) - legal:
        with pytest.raises(FlowError, match=f"^{event.value} in state {state.value}$"):
            step(state, event)


def test_every_state_event_and_action_is_used() -> None:
    steps = [(event, *step) for events in TRANSITIONS.values() for event, step in events.items()]
    assert {event for event, _, _ in steps} == set(Event)
    assert {state for _, state, _ in steps} == set(State)
    assert {action for _, _, actions in steps for action in actions} == set(Action)


def test_a_copy_of_the_syn_changes_nothing_and_decides_nothing() -> None:
    assert step(State.HELD, Event.SYN_COPY) == (State.HELD, (Action.HOLD_COPY,))
    for state in OPEN_STATES:
        assert step(state, Event.SYN_COPY) == (state, (Action.COPY_TO_LISTENER,))


def test_only_copies_and_a_second_try_leave_the_state_as_it_is() -> None:
    for state, events in TRANSITIONS.items():
        assert {event for event, (following, _) in events.items() if following is state} <= {Event.SYN_COPY, Event.LOST}


def test_every_life_ends_and_says_so_last_and_once() -> None:
    ways = list(lives())
    assert len(ways) == 11
    for events, actions in ways:
        assert actions[-1] in LAST, events
        assert not set(actions[:-1]) & set(LAST), events


def test_in_every_life_the_held_syn_is_decided_once() -> None:
    for events, actions in lives():
        assert len([action for action in actions if action in SYN_DECISIONS]) == 1, events


def test_no_leg_is_ended_twice_and_both_are_before_the_ordinary_end() -> None:
    for events, actions in lives():
        for end in (Action.END_CLIENT, Action.END_SERVER):
            assert actions.count(end) <= 1, events
        assert (actions[-1] is Action.CLOSE) == ({Action.END_CLIENT, Action.END_SERVER} <= set(actions)), events


def test_a_leg_is_ended_only_because_the_other_has_ended() -> None:
    for events in TRANSITIONS.values():
        for event, (_, actions) in events.items():
            assert (Action.END_SERVER in actions) == (event is Event.UP_ENDED)
            assert (Action.END_CLIENT in actions) == (event is Event.DOWN_ENDED)
            assert (Action.RESET in actions) == (
                event in (Event.BROKEN, Event.CONNECT_FAILED, Event.EXPIRED, Event.GAVE_UP, Event.OTHERWISE)
            )


def test_states_in_which_no_peer_has_to_speak_have_a_lifetime() -> None:
    assert {state for state, events in TRANSITIONS.items() if Event.EXPIRED in events} == set(LIFETIME)
    assert LIFETIME[State.HELD] > 32  # TCP's longest gap between two copies of a SYN that matter here
    assert LIFETIME[State.RELEASED] > 15  # the listener's last SYN+ACK


# What the client is told


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (errno.ECONNREFUSED, Refusal.RESET),  # RST, ICMP port unreachable
        (errno.ECONNRESET, Refusal.RESET),
        (errno.EHOSTUNREACH, Refusal.HOST_UNREACHABLE),
        (errno.EHOSTDOWN, Refusal.HOST_UNREACHABLE),
        (errno.ENETUNREACH, Refusal.NO_ROUTE),
        (errno.EACCES, Refusal.PROHIBITED),
        (errno.EPERM, Refusal.PROHIBITED),
        (errno.ETIMEDOUT, Refusal.SILENCE),
        (errno.ENOPROTOOPT, Refusal.RESET),  # ICMP protocol unreachable; whatever else there is
        (0, Refusal.RESET),
    ],
)
def test_refusal(error: int, answer: Refusal) -> None:
    assert refusal(error) is answer


def test_every_refusal_but_silence_has_a_mark() -> None:
    assert set(marks.REFUSE) == set(Refusal) - {Refusal.SILENCE}
