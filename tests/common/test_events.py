# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of the log in, what a client of the control socket is told out."""

import logging
import os
from typing import Any

import pytest

from common.events import Events
from common.log import about


class Client:
    """One that asks, and may leave."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.gone = False

    def reply(self, result: Any) -> bool:
        if not self.gone:
            self.told.append(result)
        return not self.gone


@pytest.fixture
def events() -> Events:
    return Events("cpe")


def happens(events: Events, level: int, text: str, *arguments: object, **fields: object) -> None:
    log = logging.Logger("a log")
    log.addHandler(events)
    log.log(level, text, *arguments, extra=about(**fields))


def whats(told: list[Any]) -> list[str]:
    return [event["what"] for event in told]


def asked(events: Events) -> list[Any]:
    client = Client()
    events.command({}, client.reply)
    (told,) = client.told
    return list(told)


def test_an_event_has_what_and_when_and_what_it_is_about(events: Events) -> None:
    happens(events, logging.WARNING, "link %s is down: %s", "lte", "no\ncarrier", link="lte", reason="no\ncarrier")
    (event,) = asked(events)
    assert event.pop("time") == pytest.approx(logging.makeLogRecord({}).created, abs=60)
    assert event == {
        "role": "cpe",
        "level": "warning",
        "what": "link lte is down: no\\ncarrier",
        "link": "lte",
        "reason": "no\\ncarrier",
    }


def test_no_field_of_a_record_takes_the_place_of_ours(events: Events) -> None:
    happens(events, logging.INFO, "a SYN", what="?", time="never", role="hag")
    (event,) = asked(events)
    assert (event["what"], event["role"]) == ("a SYN", "cpe")


def test_single_connections_are_no_events(events: Events) -> None:
    happens(events, logging.DEBUG, "a flow")
    assert asked(events) == []


def test_the_last_ones_are_kept(events: Events) -> None:
    for number in range(600):
        happens(events, logging.INFO, "%d", number)
    assert whats(asked(events)) == [str(number) for number in range(100, 600)]


def test_a_long_one_is_cut(events: Events) -> None:
    happens(events, logging.INFO, "x" * 5000, reason="y" * 5000)
    (event,) = asked(events)
    assert (len(event["what"]), len(event["reason"])) == (1000, 1000)


def test_a_follower_is_told_what_comes(events: Events) -> None:
    happens(events, logging.INFO, "before")
    client = Client()
    events.command({"follow": True}, client.reply)
    happens(events, logging.INFO, "one")
    happens(events, logging.INFO, "two")
    assert [whats(told) for told in client.told] == [["before"], ["one"], ["two"]]


def test_who_has_gone_is_forgotten_though_nothing_happens(events: Events) -> None:
    clients = [Client() for _ in range(3)]
    for client in clients:
        events.command({"follow": True}, client.reply)
        client.gone = True
    assert len(events._followers) == 1


def test_what_a_worker_says_is_not_told_by_its_copy(events: Events) -> None:
    """It has the handler by its fork, and the followers' sockets are not its own."""
    client = Client()
    events.command({"follow": True}, client.reply)
    child = os.fork()
    if child == 0:
        happens(events, logging.INFO, "from a worker")
        os._exit(len(client.told) - 1 + len(asked(events)))
    assert os.waitpid(child, 0)[1] == 0
