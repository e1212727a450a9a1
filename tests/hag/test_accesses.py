# SPDX-License-Identifier: GPL-2.0-or-later
"""What is learnt of a subscriber's access, as stories: outcomes and the time in, advice out."""

import pytest

from common.blackholes import DESTINATION, FIRST, LOST, STRIPPED
from common.mptcp import Answer
from hag.accesses import Accesses
from hag.subscribers import Subscribers

SYNS = 3
UNANSWERED = Answer(SYNS, 0.03)
CLIENT, OTHER_CLIENT = "2001:db8:f::1", "2001:db8:f::2"
ANNA, ANNAS_OTHER_HOST, BORIS = "2001:db8:1:100::10", "2001:db8:1:1ff::1", "2001:db8:1:200::10"
NOW = 1000.0


@pytest.fixture
def accesses() -> Accesses:
    return Accesses(SYNS, Subscribers(56))


def test_one_loss_is_enough_for_all_addresses_of_the_subscriber_and_whoever_asks(accesses: Accesses) -> None:
    assert accesses.avoid(CLIENT, ANNA, NOW) is None
    assert accesses.learn(CLIENT, ANNA, UNANSWERED, NOW, NOW + 3) == LOST
    for client, host in ((CLIENT, ANNA), (OTHER_CLIENT, ANNA), (OTHER_CLIENT, ANNAS_OTHER_HOST)):
        assert accesses.avoid(client, host, NOW + 4) == DESTINATION
    assert accesses.avoid(CLIENT, BORIS, NOW + 4) is None
    assert accesses.describe(NOW + 3) == [{"destination": "2001:db8:1:100::/56", "seconds": round(FIRST)}]


def test_ipv4(accesses: Accesses) -> None:
    accesses.learn("203.0.113.1", "198.51.100.2", UNANSWERED, NOW, NOW + 3)
    assert accesses.avoid("203.0.113.2", "198.51.100.2", NOW + 4) == DESTINATION
    assert accesses.avoid("203.0.113.1", "198.51.100.3", NOW + 4) is None


def test_a_client_that_meets_many_bad_accesses_is_bonded_on_good_ones(accesses: Accesses) -> None:
    for number in range(20):
        accesses.learn(CLIENT, f"2001:db8:2:{number:x}00::1", UNANSWERED, NOW, NOW + 3)
    assert accesses.avoid(CLIENT, BORIS, NOW + 4) is None


def test_an_answer_on_one_access_says_nothing_of_another(accesses: Accesses) -> None:
    accesses.learn(CLIENT, ANNA, UNANSWERED, NOW, NOW + 3)
    accesses.proved(CLIENT, ANNA, False, NOW, NOW + 3)
    assert accesses.learn(CLIENT, BORIS, None, NOW + 4, NOW + 4) is None
    accesses.proved(CLIENT, BORIS, True, NOW + 4, NOW + 4)
    assert accesses.avoid(CLIENT, ANNA, NOW + 5) == DESTINATION


def test_after_the_time_one_tries_and_an_answer_clears(accesses: Accesses) -> None:
    accesses.learn(CLIENT, ANNA, UNANSWERED, NOW, NOW)
    later = NOW + FIRST
    assert [accesses.avoid(CLIENT, ANNA, later), accesses.avoid(CLIENT, ANNA, later)] == [None, DESTINATION]
    accesses.learn(CLIENT, ANNA, None, later, later)
    assert accesses.avoid(CLIENT, ANNAS_OTHER_HOST, later) is None


def test_an_access_that_takes_the_option_out_of_data(accesses: Accesses) -> None:
    accesses.proved(CLIENT, ANNA, False, NOW, NOW)
    assert accesses.avoid(OTHER_CLIENT, ANNAS_OTHER_HOST, NOW) == STRIPPED
    assert accesses.avoid(CLIENT, BORIS, NOW) is None
    assert accesses.describe(NOW) == [{"destination": "2001:db8:1:100::/56", "seconds": round(FIRST)}]


def test_what_one_worker_finds_out_others_know(accesses: Accesses) -> None:
    other = Accesses(SYNS, Subscribers(56))
    accesses.share(other.hear)
    accesses.learn(CLIENT, ANNA, UNANSWERED, NOW, NOW + 3)
    assert other.avoid(OTHER_CLIENT, ANNAS_OTHER_HOST, NOW + 4) == DESTINATION
    assert other.avoid(OTHER_CLIENT, BORIS, NOW + 4) is None
