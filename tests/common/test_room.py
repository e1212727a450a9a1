# SPDX-License-Identifier: GPL-2.0-or-later
"""Who gets in: what one host may take from the others, and what senders of made-up addresses may take from all."""

from common.room import Limits, Room

FULL = "table full"
FULL_FOR_ONE = "too many connections of this subscriber"
OPENING = "too many half-open connections"
OPENING_OF_ONE = "too many half-open connections of this host"


def room(flows: int = 100, of_one: int = 100, opening: int = 100) -> Room:
    return Room(Limits(flows, of_one, 0, opening))


def opened(tested: Room, host: str, times: int = 1) -> None:
    for _ in range(times):
        tested.take(host)
        tested.opens_no_more(host)
        tested.remember(host)


def test_a_connection_that_ends_makes_room() -> None:
    tested = room(flows=2)
    opened(tested, "a")
    opened(tested, "b")
    assert tested.full("c") == FULL
    tested.leave("a")
    assert tested.full("c") is None


def test_one_host_has_a_share_and_the_others_the_rest() -> None:
    tested = room(of_one=2)
    opened(tested, "a", 2)
    assert tested.full("a") == FULL_FOR_ONE
    assert tested.full("b") is None
    tested.leave("a")
    assert tested.full("a") is None


def test_a_quarter_of_what_may_be_half_open_is_for_one_host() -> None:
    tested = room(opening=8)
    tested.take("a")
    assert tested.full("a") is None
    tested.take("a")
    assert tested.full("a") == OPENING_OF_ONE
    assert tested.full("b") is None
    tested.opens_no_more("a")
    assert tested.full("a") is None


def test_half_of_it_is_for_hosts_that_have_opened_a_connection() -> None:
    tested = room(opening=8)
    opened(tested, "known")
    for made_up in "abcd":
        tested.take(made_up)
    assert tested.full("e") == OPENING
    assert tested.full("known") is None
    for known in "fghi":
        tested.remember(known)
        tested.take(known)
    assert tested.full("known") == OPENING


def test_it_is_crowded_when_a_quarter_opens_or_an_eighth_of_one_host() -> None:
    tested = room(opening=16)
    tested.take("a")
    assert not tested.crowded("a")
    tested.take("a")
    assert tested.crowded("a")
    assert not tested.crowded("b")
    tested.take("b")
    tested.take("c")
    assert tested.crowded("d")


def test_who_was_known_longest_ago_is_forgotten() -> None:
    tested = room(opening=8)
    for number in range(16385):
        tested.remember(number)
    for made_up in "abcd":
        tested.take(made_up)
    assert tested.full(0) == OPENING
    assert tested.full(1) is None
