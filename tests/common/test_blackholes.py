# SPDX-License-Identifier: GPL-2.0-or-later
"""What is learnt of places that swallow SYNs with MP_CAPABLE, as transcripts: outcomes and the time in, advice out."""

import json
from typing import Any

import pytest

from common.blackholes import (
    DESTINATION,
    DESTINATIONS,
    EVERYWHERE,
    FIRST,
    HOSTS,
    IN_A_ROW,
    LATE,
    LONGEST,
    LOST,
    REFUSED,
    SHARE,
    STRIPPED,
    TRIAL,
    Blackholes,
)
from common.mptcp import Answer

SYNS = 3  # with the option, as many as the kernel sends by default
UNANSWERED = Answer(SYNS, 0.03)  # until one without the option went out
ANNA, BORIS, ANNA6 = "192.0.2.10", "192.0.2.11", "2001:db8:1000:1::10"


class Story:
    """A worker's memory, and what happens to connections one after the other."""

    def __init__(self, syns: int = SYNS) -> None:
        self.memory = Blackholes(syns)
        self.now = 1000.0

    def later(self, seconds: float) -> None:
        self.now += seconds

    def avoids(self, destination: str, host: str = ANNA) -> str | None:
        return self.memory.avoid(host, destination, self.now)

    def lost(
        self, destination: str, host: str = ANNA, *, answer: Answer = UNANSWERED, began: float | None = None
    ) -> str | None:
        """A connection that tries and comes about three seconds later, without the option."""
        if began is None:
            assert self.avoids(destination, host) is None
            began = self.now
            self.later(3)
        return self.memory.learn(host, destination, answer, began, self.now)

    def bonded(self, destination: str, host: str = ANNA) -> None:
        assert self.avoids(destination, host) is None
        assert self.memory.learn(host, destination, None, self.now, self.now) is None

    def lose_all(self, host: str = ANNA) -> None:
        for number in range(IN_A_ROW):
            self.lost(destination(number), host)


def destination(number: int) -> str:
    return f"203.0.113.{number}"


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_loss_is_remembered_for_a_while(story: Story) -> None:
    assert story.lost("203.0.113.1") == LOST
    assert story.avoids("203.0.113.1") == DESTINATION
    assert story.avoids("203.0.113.1", BORIS) == DESTINATION
    assert story.avoids("203.0.113.2") is None
    story.later(FIRST - 1)
    assert story.avoids("203.0.113.1") == DESTINATION
    assert story.memory.describe(story.now) == [{"destination": "203.0.113.1", "seconds": 1}]
    story.later(1)
    assert story.memory.describe(story.now) == []
    assert story.avoids("203.0.113.1") is None


@pytest.mark.parametrize("copies", range(SYNS))
def test_plain_tcp_in_time_needs_no_avoiding(story: Story, copies: int) -> None:
    assert story.lost("203.0.113.1", answer=Answer(copies, 0.03)) == REFUSED
    assert story.avoids("203.0.113.1") is None
    assert story.memory.describe(story.now) == []


def test_an_answer_to_a_later_syn_without_the_option_proves_nothing(story: Story) -> None:
    assert story.lost("203.0.113.1", answer=Answer(SYNS + 1, 0.03)) == LOST
    assert story.avoids("203.0.113.1") is None


def test_a_second_attempt_without_the_option_is_as_good_a_proof() -> None:
    story = Story(syns=128)
    assert story.lost("203.0.113.1", answer=Answer(0, 0.03, anew=True)) == LOST
    assert story.avoids("203.0.113.1") == DESTINATION
    assert story.lost("203.0.113.2", answer=Answer(1, 0.03, anew=True)) == LOST
    assert story.avoids("203.0.113.2") is None, "there are other reasons for silence"
    assert story.lost("203.0.113.3", answer=Answer(0, 1.5, anew=True)) == LATE
    assert story.avoids("203.0.113.3") is None
    assert story.lost("203.0.113.4", answer=Answer(2, 0.03)) == REFUSED
    assert story.avoids("203.0.113.4") is None


@pytest.mark.parametrize("copies", [SYNS, SYNS + 1])
def test_a_slow_server_is_told_by_the_syn_that_it_answers(story: Story, copies: int) -> None:
    story.lose_all()
    assert story.lost("198.51.100.1", began=story.now, answer=Answer(copies, 3.05)) == LATE
    assert story.avoids("198.51.100.1") is None, "the SYN that it answered had the option"
    assert story.avoids("198.51.100.2") is None


def test_without_timestamps_the_number_of_copies_must_do(story: Story) -> None:
    assert story.lost("203.0.113.1", answer=Answer(SYNS, 0.0)) == LOST
    assert story.avoids("203.0.113.1") == DESTINATION


def test_one_tries_when_the_time_is_over(story: Story) -> None:
    story.lost("203.0.113.1")
    story.later(FIRST)
    assert story.avoids("203.0.113.1") is None
    assert [story.avoids("203.0.113.1", host) for host in (ANNA, BORIS)] == [DESTINATION, DESTINATION]
    story.later(TRIAL)  # the one was refused, or gave up
    assert story.avoids("203.0.113.1") is None


def test_success_clears(story: Story) -> None:
    story.lost("203.0.113.1")
    story.later(FIRST)
    story.bonded("203.0.113.1")
    assert story.avoids("203.0.113.1") is None
    story.lost("203.0.113.1")
    story.later(FIRST)
    assert story.avoids("203.0.113.1") is None, "the time was doubled, though it had worked in between"


def test_each_further_loss_doubles_the_time(story: Story) -> None:
    lasts = []
    for _ in range(7):
        story.lost("203.0.113.1")
        lasts.append(story.memory.describe(story.now)[0]["seconds"])
        story.later(lasts[-1])
    assert lasts == [600, 1200, 2400, 4800, 7200, 7200, 7200]
    assert lasts[-1] == LONGEST


def test_losses_side_by_side_are_one(story: Story) -> None:
    began = story.now
    story.lost("203.0.113.1")
    for _ in range(5):
        story.lost("203.0.113.1", began=began + 1)
    assert story.memory.describe(story.now) == [{"destination": "203.0.113.1", "seconds": round(FIRST)}]


def test_several_destinations_in_a_row_are_the_way_to_all(story: Story) -> None:
    story.lose_all()
    assert story.avoids("198.51.100.99") == EVERYWHERE
    assert {"host": ANNA, "seconds": round(FIRST)} in story.memory.describe(story.now)
    story.later(FIRST)
    assert story.avoids("198.51.100.99") is None, "one tries"
    assert story.avoids("198.51.100.98") == EVERYWHERE, "the others wait for it"
    story.lost("198.51.100.99", began=story.now)
    assert {"host": ANNA, "seconds": round(2 * FIRST)} in story.memory.describe(story.now)
    assert story.avoids("198.51.100.98") == EVERYWHERE


def test_a_success_in_between_breaks_the_row(story: Story) -> None:
    for number in range(10):
        story.lost(destination(number))
        if number % (IN_A_ROW - 1):
            story.bonded("198.51.100.1", BORIS)
    assert story.avoids("198.51.100.1") is None


def test_plain_tcp_in_time_shows_that_the_way_is_open_too(story: Story) -> None:
    story.lose_all()
    story.lost("198.51.100.1", BORIS, answer=Answer(0, 0.03))
    assert story.avoids("198.51.100.2") is None


def test_the_same_destination_again_is_no_row(story: Story) -> None:
    for _ in range(IN_A_ROW + 1):
        story.lost("203.0.113.1")
        story.later(LONGEST)
    assert story.avoids("203.0.113.2") is None


def test_what_one_host_loses_ends_bonding_for_no_other(story: Story) -> None:
    story.lose_all(BORIS)
    assert story.avoids("198.51.100.1", BORIS) == EVERYWHERE
    story.bonded("198.51.100.1", ANNA)


def test_a_host_that_bonds_shows_the_others_that_it_works(story: Story) -> None:
    story.lose_all(BORIS)
    story.bonded("198.51.100.1", ANNA)
    assert story.avoids("198.51.100.1", BORIS) is None


def test_address_families_have_ways_of_their_own(story: Story) -> None:
    story.lose_all()
    story.bonded("2001:db8::1", ANNA6)
    assert story.avoids("198.51.100.1") == EVERYWHERE


def test_a_trial_of_the_way_is_not_spent_on_a_destination_that_is_avoided(story: Story) -> None:
    story.lose_all()
    story.later(FIRST - 1)
    story.memory.learn(BORIS, "203.0.113.99", UNANSWERED, story.now, story.now)
    story.later(1)
    assert story.avoids("203.0.113.99") == DESTINATION
    assert story.avoids("198.51.100.1") is None


def test_a_host_fills_no_more_than_its_share(story: Story) -> None:
    story.lost("198.51.100.1", BORIS)
    for number in range(2 * DESTINATIONS):
        story.memory.learn(ANNA, f"2001:db8::{number:x}", UNANSWERED, story.now, story.now)
    known = [it["destination"] for it in story.memory.describe(story.now) if "destination" in it]
    assert len(known) == SHARE + 1
    assert known[0] == "198.51.100.1"
    assert known[-1] == f"2001:db8::{2 * DESTINATIONS - 1:x}", "the oldest ones go"


def test_a_way_that_takes_the_option_out_of_data_is_avoided_at_once(story: Story) -> None:
    story.memory.proved(ANNA, "203.0.113.1", False, story.now, story.now)
    story.memory.proved(ANNA, "203.0.113.1", False, story.now - 1, story.now)
    assert story.avoids("203.0.113.1") == STRIPPED
    assert story.avoids("203.0.113.1", BORIS) is None
    story.memory.learn(BORIS, "203.0.113.1", None, story.now, story.now)
    assert story.avoids("203.0.113.1") == STRIPPED, "a handshake proves nothing"
    assert story.memory.describe(story.now) == [{"host": ANNA, "seconds": round(FIRST)}]
    story.later(FIRST)
    assert [story.avoids("203.0.113.1"), story.avoids("203.0.113.1")] == [None, STRIPPED]
    story.memory.proved(ANNA, "203.0.113.1", True, story.now, story.now)
    assert story.avoids("203.0.113.1") is None


def test_all_tables_are_bounded(story: Story) -> None:
    for number in range(2 * DESTINATIONS):
        for place in range(IN_A_ROW):
            host = f"2001:db8:1000::{number:x}"
            story.memory.learn(host, f"2001:db8::{number:x}:{place}", UNANSWERED, story.now, story.now)
    known = story.memory.describe(story.now)
    assert sum("destination" in it for it in known) == DESTINATIONS
    assert sum("host" in it for it in known) == HOSTS
    for number in range(2 * HOSTS):
        story.memory.proved(f"2001:db8:1000::{number:x}", "203.0.113.1", False, story.now, story.now)
    assert sum("host" in it for it in story.memory.describe(story.now)) == 2 * HOSTS


# What workers tell each other


@pytest.fixture
def others(story: Story) -> Story:
    """Of another worker, which hears what the first one's tells, and the other way round."""
    others = Story()
    for one, other in ((story, others), (others, story)):
        one.memory.share(lambda news, other=other: other.memory.hear(json.loads(json.dumps(news))))  # type: ignore[misc]
    return others


def both(story: Story, others: Story, seconds: float) -> None:
    story.now = others.now = max(story.now, others.now) + seconds


def test_a_loss_is_known_to_all(story: Story, others: Story) -> None:
    story.lost("203.0.113.1")
    assert others.avoids("203.0.113.1") == DESTINATION
    assert others.memory.describe(story.now) == story.memory.describe(story.now)


def test_one_tries_for_all(story: Story, others: Story) -> None:
    story.lost("203.0.113.1")
    both(story, others, FIRST)
    assert story.avoids("203.0.113.1") is None
    assert others.avoids("203.0.113.1") == DESTINATION
    both(story, others, 3)
    story.lost("203.0.113.1", began=story.now - 3)
    assert others.memory.describe(story.now) == [{"destination": "203.0.113.1", "seconds": round(2 * FIRST)}]


def test_an_answer_clears_for_all(story: Story, others: Story) -> None:
    story.lost("203.0.113.1")
    both(story, others, FIRST)
    others.bonded("203.0.113.1")
    assert story.avoids("203.0.113.1") is None


def test_a_row_is_made_of_what_all_have_seen(story: Story, others: Story) -> None:
    for number in range(IN_A_ROW):
        both(story, others, 0)
        (story, others)[number % 2].lost(destination(number))
    both(story, others, 0)
    assert story.avoids("198.51.100.1") == others.avoids("198.51.100.2") == EVERYWHERE
    others.bonded("198.51.100.1", BORIS)
    assert story.avoids("198.51.100.2") is None


def test_a_way_that_takes_the_option_out_of_data_is_known_to_all(story: Story, others: Story) -> None:
    story.memory.proved(ANNA, "203.0.113.1", False, story.now, story.now)
    assert others.avoids("203.0.113.2") == STRIPPED
    both(story, others, FIRST)
    others.memory.proved(ANNA, "203.0.113.1", True, others.now, others.now)
    assert story.avoids("203.0.113.2") is None


def test_what_changes_nothing_is_not_told(story: Story) -> None:
    told: list[list[Any]] = []
    story.memory.share(told.append)
    for _ in range(3):
        story.bonded("203.0.113.1")
        story.memory.proved(ANNA, "203.0.113.1", True, story.now, story.now)
        story.lost("203.0.113.1", answer=Answer(0, 0.03))
    assert told == []
