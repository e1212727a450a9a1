# SPDX-License-Identifier: GPL-2.0-or-later
"""Links that fall silent: a small world of links and a gateway, with a clock, in which probes are answered or not."""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from cpe.health import Aim, Health

XDSL4, LTE4 = Aim(11, "198.51.100.2", "203.0.113.1"), Aim(12, "198.51.100.66", "203.0.113.1")
XDSL6, LTE6 = Aim(11, "2001:db8:1::2", "2001:db8:f::1"), Aim(12, "2001:db8:2::2", "2001:db8:f::1")
IPV4, IPV6 = {"xdsl": XDSL4, "lte": LTE4}, {"xdsl": XDSL6, "lte": LTE6}
INTERVAL, COUNT = 0.25, 4


@dataclass
class Way:
    """A link: ``rtt`` in seconds, ``rate`` in packets a second towards us, ``loss`` of a probe or its answer."""

    rtt: float
    rate: float = 0.0
    loss: float = 0.0
    open: bool = True
    packets: float = 0.0


@dataclass
class Bucket:
    """Tokens, as the nftables' limit has them."""

    rate: float
    tokens: float
    filled: float
    burst: float = 5.0

    def has(self, now: float) -> bool:
        self.tokens, self.filled = min(self.burst, self.tokens + self.rate * (now - self.filled)), now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class World:
    def __init__(self, aims: dict[str, Aim] | None = None, seed: int = 0) -> None:
        self.now = 1000.0
        self.health = Health(INTERVAL, COUNT)
        self.aims = IPV4 if aims is None else aims
        self.ways = {"xdsl": Way(0.03), "lte": Way(0.06)}
        self.hag = True
        self.step = 0.0  # of the clock that answers are stamped with, while they wait to be read
        self.log: list[tuple[float, str]] = []  # verdicts and their end
        self.sent = 0
        self.looks = 0
        self._coming: list[tuple[float, str, int]] = []
        self._random = random.Random(seed)
        self._counted = self.now
        self.health.aim(self.aims, self.now)

    def run(self, seconds: float, change: Callable[[float], None] = lambda _now: None) -> None:
        """``change`` may alter the world before each look."""
        end = self.now + seconds
        while True:
            due = self.health.due(self.now)
            if due is None or due > end:
                break
            self._pass(max(due, self.now + 0.0001))
            change(self.now)
            self._look()
        self._pass(end)

    def _pass(self, now: float) -> None:
        for way in self.ways.values():
            way.packets += way.rate * (now - self._counted) * way.open
        self._counted = self.now = now

    def _look(self) -> None:
        self.looks += 1
        while self._coming and self._coming[0][0] <= self.now:
            when, name, sequence = heapq.heappop(self._coming)
            if self.ways[name].open:
                self.ways[name].packets += 1
                self.health.answered(name, sequence, when + self.step)
        before = self.health.verdicts
        for probe in self.health.act(self.now, {name: int(way.packets) for name, way in self.ways.items()}):
            self.sent += 1
            way = self.ways[probe.link]
            if self.answers(way):
                heapq.heappush(self._coming, (self.now + way.rtt, probe.link, probe.sequence))
        after = self.health.verdicts
        self.log += [(self.now, f"{name}: {why}") for name, why in after.items() if name not in before]
        self.log += [(self.now, f"{name} is back") for name in before if name not in after]

    def answers(self, way: Way) -> bool:
        """Whether a probe that is sent over it now is answered."""
        return self.hag and way.open and self._random.random() >= way.loss

    @property
    def told(self) -> list[str]:
        return [text for _, text in self.log]

    def found_after(self, lost: str, patience: float = 3.0) -> float:
        """Seconds until it is found that this link, and no other, is dead."""
        start = self.now
        self.ways[lost].open = False
        self.run(patience)
        ((when, text),) = self.log
        assert text.startswith(f"{lost}: no answer from the HAG for ")
        self.log.clear()
        return when - start


PHASES = [0.05 * number for number in range(6)]
EITHER = pytest.mark.parametrize("aims", [IPV4, IPV6], ids=["IPv4", "IPv6"])


@pytest.fixture
def world() -> World:
    """All is well, and has been for five seconds."""
    made = World()
    made.run(5)
    return made


@pytest.fixture
def xdsl_lost(world: World) -> None:
    """In this world xdsl has fallen silent, which has been found."""
    world.found_after("xdsl")


@EITHER
@pytest.mark.parametrize("lost", ["xdsl", "lte"])
def test_a_silent_loss_of_an_idle_link_is_found_within_a_second(aims: dict[str, Aim], lost: str) -> None:
    for phase in PHASES:
        world = World(aims)
        world.run(10 + phase)
        assert world.found_after(lost) < 0.8 + (0.3 if aims is IPV6 else 0)


@EITHER
def test_an_idle_link_costs_less_than_a_kilobit_a_second(aims: dict[str, Aim]) -> None:
    world = World(aims)
    world.run(100)
    size = 28 if aims is IPV4 else 48
    assert world.sent / len(aims) * size * 8 / 100 < 1000


@pytest.mark.parametrize("lost", ["xdsl", "lte"])
def test_the_loss_of_a_link_that_carries_something_is_found_sooner(lost: str) -> None:
    for phase in PHASES:
        world = World()
        world.ways["xdsl"].rate, world.ways["lte"].rate = 1700.0, 100.0
        world.run(10 + phase)
        assert world.found_after(lost) < 0.3


def test_so_it_is_where_probes_wait_behind_what_is_carried(world: World) -> None:
    for way in world.ways.values():
        way.rate, way.rtt = 1000.0, way.rtt + 0.15
    world.run(30)
    assert world.found_after("xdsl") < 0.4


def test_an_idle_box_is_woken_for_its_probes_alone(world: World) -> None:
    world.ways["lte"].rate = 1000.0
    world.run(2)
    world.ways["lte"].rate = 0.0
    world.run(2)
    before = world.looks
    world.run(100)
    assert world.looks - before <= 401


@pytest.mark.usefixtures("xdsl_lost")
def test_what_is_lost_comes_back_with_some_answers(world: World) -> None:
    world.run(60)
    assert not world.log
    start, world.ways["xdsl"].open = world.now, True
    world.run(5)
    ((when, text),) = world.log
    assert text == "xdsl is back"
    assert 0.5 < when - start < 1


@pytest.mark.usefixtures("xdsl_lost")
def test_a_line_that_answers_now_and_then_is_not_back(world: World) -> None:
    def flicker(now: float) -> None:
        world.ways["xdsl"].open = now % 3 < 0.5

    world.run(60, flicker)
    assert not world.log


def test_pauses_of_what_is_carried_are_no_silence(world: World) -> None:
    def pause(now: float) -> None:
        world.ways["xdsl"].rate = 2000.0 * (now % 1 < 0.5)

    world.run(60, pause)
    assert not world.log


def test_a_lossy_link_is_not_dead() -> None:
    world = World(seed=1)
    world.ways["lte"].loss = 0.04  # of the probe or of its answer, 2 % each

    def carry_now_and_then(now: float) -> None:
        world.ways["lte"].rate = 1000.0 * (now % 7 < 2)

    world.run(400, carry_now_and_then)
    assert not world.log


def test_a_queue_that_fills_is_no_silence(world: World) -> None:
    start = world.now

    def fill(now: float) -> None:  # within a second, with what nobody sees come back
        world.ways["lte"].rtt = 0.06 + min(1.0, now - start)

    world.run(10, fill)
    world.ways["lte"].rtt = 0.06
    world.run(10)
    assert not world.log


def test_packets_that_arrive_are_life(world: World) -> None:
    world.ways["lte"].rtt, world.ways["lte"].rate = 1.06, 80.0  # at once: a second of queue before a slow link
    world.run(0.5)
    assert not world.log
    world.ways["lte"].loss = 1.0  # and it is full
    world.run(30)
    assert not world.log


def test_the_modems_own_packets_are_not() -> None:
    world = World()
    world.run(10)
    start, lte = world.now, world.ways["lte"]
    lte.loss = 1.0
    lte.rate = 1.5
    world.run(3)
    ((when, _),) = world.log
    assert when - start < 2


@pytest.mark.parametrize("rates", [(0.0, 0.0), (1000.0, 500.0)], ids=["idle", "busy"])
def test_a_hag_that_is_gone_is_no_links_fault(rates: tuple[float, float]) -> None:
    for phase in PHASES:
        world = World()
        world.ways["xdsl"].rate, world.ways["lte"].rate = rates
        world.run(5 + phase)
        world.hag = False
        for way in world.ways.values():
            way.rate = 0.0
        world.run(7 + 3 * phase)
        world.hag = True
        world.run(5)
        assert not world.log


@pytest.mark.parametrize("rate", [1.0, 2.0, 5.0])
def test_a_hag_that_answers_so_many_a_second_and_no_more_is_no_links_fault(rate: float) -> None:
    """As a firewall limits echo requests: five at once, then at this rate, whichever link they come over."""
    world = World()
    bucket = Bucket(rate, 5.0, world.now)
    answers = world.answers
    world.answers = lambda way: bucket.has(world.now) and answers(way)
    world.run(300)
    assert not world.log


def test_a_hag_that_loses_half_of_all_probes_blames_a_link_seldom() -> None:
    world = World()
    for way in world.ways.values():
        way.loss = 0.5
    world.run(600)
    assert len(world.log) < 80  # twice as many where one answer over the other link was enough


def test_an_answer_from_before_the_clock_was_set_teaches_nothing(world: World) -> None:
    world.ways["lte"].rtt = 0.18
    world.run(10)
    before = world.health.rtt("lte", world.now)
    world.step = -3600.0
    world.run(0.3)
    world.step = 0.0
    assert world.health.rtt("lte", world.now) == pytest.approx(before, abs=0.02)
    for _ in range(20):  # what is carried pauses
        world.ways["lte"].rate = 1000.0
        world.run(1)
        world.ways["lte"].rate = 0.0
        world.run(1)
    assert not world.log


def test_a_hag_that_never_answers_is_asked_seldom_and_blames_nobody() -> None:
    world = World()
    world.hag = False
    world.run(9)
    assert not world.health.unanswered(world.now)
    world.run(5)
    assert world.health.unanswered(world.now)
    before = world.sent
    world.run(100)
    assert world.sent - before <= 2 * 21
    world.ways["xdsl"].open = False
    world.run(20)
    assert not world.log
    world.hag = True
    world.run(10)
    assert not world.health.unanswered(world.now)
    assert world.health.describe("lte")["answers"]


def test_a_hag_that_answers_no_more_is_told_of_and_no_round_trip_is_known(world: World) -> None:
    world.hag = False
    world.run(5)
    assert not world.health.unanswered(world.now)
    assert world.health.rtt("lte", world.now) == pytest.approx(0.06)
    world.run(1)
    assert world.health.unanswered(world.now)
    assert world.health.rtt("lte", world.now) is None
    assert not world.log
    world.hag = True
    world.run(0.5)
    assert not world.health.unanswered(world.now)
    assert world.health.rtt("lte", world.now) == pytest.approx(0.06)


def test_answers_that_come_over_one_link_are_answers(world: World) -> None:
    """Packets come over the other one, so it is alive, but how long a round trip takes is not known any more."""
    world.ways["xdsl"].rate, world.ways["xdsl"].loss = 1000.0, 1.0
    world.run(10)
    assert not world.log
    assert not world.health.unanswered(world.now)
    assert world.health.rtt("xdsl", world.now) is None


def test_a_link_that_has_just_come_back_is_given_time_to_answer(world: World) -> None:
    world.health.aim({}, world.now)
    world.run(3600)
    world.health.aim(world.aims, world.now)
    world.hag = False
    world.run(5)
    assert not world.health.unanswered(world.now)


def test_a_link_over_which_nobody_ever_answered_is_neither_dead_nor_a_witness() -> None:
    world = World()
    world.ways["lte"].loss = 1.0
    world.run(20)
    world.ways["xdsl"].open = False
    world.run(20)
    assert not world.log


@pytest.mark.usefixtures("xdsl_lost")
def test_the_last_link_is_never_dead(world: World) -> None:
    world.ways["lte"].open = False
    world.run(20)
    assert not world.log


@pytest.mark.usefixtures("xdsl_lost")
def test_a_dead_link_is_used_again_where_the_others_are_gone(world: World) -> None:
    world.health.keep(["xdsl"], world.now)  # the kernel shows the other one down
    assert world.health.dead("xdsl") is None
    world.run(20)
    assert not world.log


def test_a_link_that_was_only_slow_is_given_that_time_from_now_on(world: World) -> None:
    lte = world.ways["lte"]
    for told in (2, 0, 0):  # found dead and back, once
        lte.rate = 1000.0
        world.run(2)
        lte.rate, lte.rtt = 0.0, 0.4
        world.run(3)
        assert len(world.log) == told
        if told:
            assert world.health.was_mistaken("lte")
            assert world.log[1][0] - world.log[0][0] < 0.5  # the answers that were under way
        world.log.clear()


def test_what_is_known_of_a_link() -> None:
    world = World()
    assert world.health.rtt("lte", world.now) is None
    assert world.health.describe("sat") == {
        "target": None,
        "answers": None,
        "sent": 0,
        "lost": 0,
        "rtt_ms": None,
        "smoothed_rtt_ms": None,
    }
    world.run(5)
    world.ways["lte"].loss = 1.0
    world.run(0.3)
    world.ways["lte"].loss = 0.0
    world.run(10)
    known = world.health.describe("lte")
    assert known["target"] == "203.0.113.1"
    assert known["lost"] > 0
    assert known["rtt_ms"] == known["smoothed_rtt_ms"] == 60.0
    assert world.health.rtt("lte", world.now) == pytest.approx(0.06)
    assert world.health.rtt("xdsl", world.now) == pytest.approx(0.03)


@pytest.mark.usefixtures("xdsl_lost")
def test_another_target_is_another_story(world: World) -> None:
    world.aims = {name: Aim(aim.device, aim.source, "203.0.113.2") for name, aim in world.aims.items()}
    world.health.aim(world.aims, world.now)
    assert world.health.dead("xdsl") is None
    world.run(20)
    assert not world.log  # nobody has answered over it there


def test_nobody_is_asked_where_there_is_no_choice() -> None:
    nothing: Sequence[tuple[float, str]] = []
    world = World({})
    world.run(10)
    assert world.log == nothing
    assert world.sent == 0
    assert world.health.due(world.now) is None
