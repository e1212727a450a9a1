# SPDX-License-Identifier: GPL-2.0-or-later
"""Links that make the whole slower: a model of throttled, lossy and idle links in, what is demoted when out."""

import itertools
import random
from collections.abc import Callable

import pytest

from cpe.governor import LOOK, TRIED, Governor

MEGABIT = 1e6
Model = Callable[[float, frozenset[str]], dict[str, tuple[float, float]]]  # (time, links in use) -> bit/s down, up


class Line:
    """A governor over links that carry what a model says, and a diary of what it decides."""

    def __init__(self, model: Model, configured: dict[str, tuple[float | None, float | None]] | None = None) -> None:
        self.model = model
        self.governor = Governor(configured or {"xdsl": (None, None), "lte": (None, None)}, "xdsl")
        self.carried = {"xdsl": (0, 0), "lte": (0, 0)}
        self.now = 1000.0
        self.trips: dict[str, float] = {}
        self.twice = [0, 0]  # bytes that went over one link, late, and over the other

    def run(self, seconds: float) -> list[tuple[float, dict[str, str]]]:
        """What has been demoted when, in seconds from now."""
        began, diary = self.now, []
        while self.now < began + seconds - LOOK / 2:
            self.now += LOOK
            used = frozenset(self.carried.keys() - self.governor.demoted.keys())
            for name, rates in self.model(self.now, used).items():
                down, up = (int(rate * MEGABIT * LOOK / 8) for rate in rates)
                before = self.carried[name]
                self.carried[name] = (before[0] + down, before[1] + up)
            down, up = (sum(it[way] for it in self.carried.values()) for way in (0, 1))
            lan = (down - self.twice[0], up - self.twice[1])
            if self.governor.observe(dict(self.carried), lan, self.now, self.trips):
                diary.append((round(self.now - began, 2), dict(self.governor.demoted)))
        return diary


def only(used: frozenset[str], **rates: float) -> dict[str, tuple[float, float]]:
    """Down, with 2 % of it up; nothing over links that are not in use."""
    return {name: (rate, rate / 50) if name in used else (0.0, 0.0) for name, rate in rates.items()}


def throttled(_now: float, used: frozenset[str]) -> dict[str, tuple[float, float]]:
    """xDSL of 27 Mbit/s, which LTE at 1 Mbit/s holds up."""
    return only(used, xdsl=11.0, lte=1.0) if "lte" in used else only(used, xdsl=27.0, lte=0.0)


def healthy(_now: float, used: frozenset[str]) -> dict[str, tuple[float, float]]:
    return only(used, xdsl=19.0, lte=29.0)


def watching(_now: float, used: frozenset[str]) -> dict[str, tuple[float, float]]:
    """A film of 5 Mbit/s that either link can carry."""
    if used == {"xdsl", "lte"}:
        return only(used, xdsl=2.0, lte=3.0)
    return only(used, xdsl=5.0, lte=5.0)


RATES: dict[str, tuple[float | None, float | None]] = {"xdsl": (30e6, 5e6), "lte": (30e6, 5e6)}


def test_a_throttled_link_is_demoted_with_the_measured_reason() -> None:
    line = Line(throttled, RATES)
    diary = line.run(9)
    assert diary[0] == (3.2, {"lte": TRIED})
    assert diary[1][0] < 7
    assert diary[1][1] == {"lte": "with it 12 Mbit/s, without it 27 Mbit/s"}


def test_it_is_tried_again_after_ever_longer_times() -> None:
    line = Line(throttled, RATES)
    diary = line.run(700)
    returns = [when for when, demoted in diary if not demoted]
    waits = [later - sooner for sooner, later in itertools.pairwise(returns)]
    assert returns[0] < 12
    assert waits[0] < 20
    assert all(later > 2 * sooner for sooner, later in itertools.pairwise(waits) if later < 250)
    assert 250 < waits[-1] < 310
    used = sum(again - back for (back, gone), (again, _) in itertools.pairwise(diary) if not gone)
    assert used < 0.02 * 700  # seconds that the attempts took, all together


def test_a_link_that_has_recovered_is_in_use_again() -> None:
    line = Line(throttled, RATES)
    line.run(9)
    line.model = healthy
    diary = line.run(20)
    assert diary == [(pytest.approx(diary[0][0]), {})]
    assert line.run(300) == []  # and stays


def test_one_that_recovers_and_fails_again_waits_longer() -> None:
    line = Line(throttled, RATES)
    line.run(9)
    line.model = healthy
    line.run(20)
    line.model = throttled
    diary = line.run(9)
    assert [demoted for _, demoted in diary] == [{"lte": TRIED}, {"lte": "with it 12 Mbit/s, without it 27 Mbit/s"}]
    demoted_at = diary[-1][0]
    assert next(when for when, demoted in line.run(30) if not demoted) + 9 - demoted_at > 15


def test_links_that_add_up_are_left_alone() -> None:
    assert Line(healthy, RATES).run(600) == []


def test_a_link_whose_lack_the_others_cannot_make_up_for_is_not_tried_without() -> None:
    """15 Mbit/s beside 1 Mbit/s, which holds it up: without the fast one there would be 1 Mbit/s."""
    line = Line(lambda _now, used: only(used, xdsl=1.0, lte=9.0 if "xdsl" in used else 15.0))
    line.governor = Governor({"xdsl": (1e6, 1e6), "lte": (15e6, 15e6)}, "xdsl")
    diary = line.run(12)
    assert diary[0] == (3.2, {"xdsl": TRIED})
    assert diary[1][1] == {"xdsl": "with it 10 Mbit/s, without it 15 Mbit/s"}


def test_what_is_idle_is_left_alone() -> None:
    line = Line(throttled, RATES)
    line.model = lambda _now, used: only(used, xdsl=0.05, lte=0.05)
    assert line.run(600) == []


def test_links_in_backup_are_left_alone() -> None:
    line = Line(throttled, RATES)
    line.model = lambda _now, used: only(used, xdsl=10.0, lte=0.01)
    assert line.run(600) == []


def test_where_the_application_is_the_limit_nothing_is_lost_and_trials_get_rare() -> None:
    line = Line(watching, RATES)
    diary = line.run(1200)
    assert all(demoted in ({}, {"lte": TRIED}, {"xdsl": TRIED}) for _, demoted in diary)
    assert len([when for when, _ in diary if when > 600]) <= 12


class Bursts:
    """An application that wants all there is for some seconds and next to nothing for others, over links of a model."""

    def __init__(self, model: Model, wanted: float, not_wanted: float, seed: int) -> None:
        self.model = model
        self.seconds = itertools.cycle((wanted, not_wanted))
        self.random = random.Random(seed)
        self.wants = False
        self.until = 0.0

    def __call__(self, now: float, used: frozenset[str]) -> dict[str, tuple[float, float]]:
        while now >= self.until:
            self.wants = not self.wants
            self.until = max(self.until, now) + next(self.seconds) * self.random.uniform(0.7, 1.3)
        return self.model(now, used) if self.wants else only(used, xdsl=0.3, lte=0.0)


@pytest.mark.parametrize(
    ("wanted", "not_wanted", "seed"), [(1, 1.5, 1), (2, 5, 0), (3, 3, 2), (5, 1.5, 1), (10, 1.5, 1), (10, 3, 1)]
)
def test_what_an_application_in_bursts_has_taught_does_not_hold_for_a_download(
    wanted: float, not_wanted: float, seed: int
) -> None:
    """Without LTE there was more or with it less, since more or less was wanted just then."""
    line = Line(Bursts(healthy, wanted, not_wanted, seed), RATES)
    diary = line.run(400)
    assert any("lte" in demoted and demoted["lte"] != TRIED for _, demoted in diary)
    line.model = healthy
    assert all(when < 10 for when, _ in line.run(320))
    assert line.governor.demoted == {}


@pytest.mark.parametrize(("wanted", "not_wanted", "share"), [(60, 30, 0.04), (10, 3, 0.08), (6, 4, 0.08)])
def test_a_throttled_link_costs_little_of_many_downloads(wanted: float, not_wanted: float, share: float) -> None:
    downloads = Bursts(throttled, wanted, not_wanted, 0)
    with_it = []

    def noted(now: float, used: frozenset[str]) -> dict[str, tuple[float, float]]:
        carried = downloads(now, used)
        if downloads.wants:
            with_it.append("lte" in used)
        return carried

    Line(noted, RATES).run(1800)
    assert sum(with_it) < share * len(with_it)


def test_after_a_while_of_nothing_a_link_is_tried_again_once_much_is_wanted() -> None:
    line = Line(throttled, RATES)
    line.run(600)
    assert "lte" in line.governor.demoted
    line.now += 30.0  # nobody looks
    line.model = lambda _now, used: only(used, xdsl=27.0, lte=20.0)
    diary = line.run(100)
    assert [demoted for _, demoted in diary] == [{}]
    assert diary[0][0] < 8


def test_more_to_carry_in_the_middle_of_a_trial_is_found_out_soon() -> None:
    line = Line(watching, RATES)
    begun, demoted = line.run(3.5)[0]
    assert (begun, demoted) == (3.2, {"lte": TRIED})
    line.model = healthy
    diary = line.run(15)
    assert diary[-1][1] == {}
    assert diary[-1][0] < 12
    assert line.run(100) == []


def test_a_link_that_was_needed_is_tried_later_each_time() -> None:
    """LTE carries less than it is told to, but what it carries is worth having."""
    line = Line(lambda _now, used: only(used, xdsl=15.0, lte=5.0), RATES)
    diary = line.run(600)
    assert {tuple(demoted) for _, demoted in diary} <= {(), ("lte",), ("xdsl",)}
    assert all(why == TRIED for _, demoted in diary for why in demoted.values())
    lost = sum(back - gone for (gone, _), (back, demoted) in itertools.pairwise(diary) if not demoted)
    assert lost < 0.04 * 600


def test_a_collapse_is_looked_into_at_once() -> None:
    line = Line(lambda _now, used: only(used, xdsl=15.0, lte=5.0), RATES)
    line.run(400)
    line.model = throttled
    diary = line.run(15)
    assert diary[0][0] < 4
    assert diary[-1][1] in ({"lte": "with it 12 Mbit/s, without it 27 Mbit/s"}, {"xdsl": TRIED}) or any(
        "lte" in demoted and demoted["lte"] != TRIED for _, demoted in diary
    )


def test_without_configured_rates_they_are_learned() -> None:
    line = Line(healthy)
    assert line.run(30) == []
    line.model = lambda _now, used: only(used, xdsl=3.0, lte=1.0) if "lte" in used else only(used, xdsl=19.0, lte=0.0)
    diary = line.run(10)
    assert {"lte": "with it 4.0 Mbit/s, without it 19 Mbit/s"} in [demoted for _, demoted in diary]


def test_the_other_direction_does_not_pay_for_it() -> None:
    """Without LTE the download gains a tenth, and the upload loses four fifths."""

    def both_ways(_now: float, used: frozenset[str]) -> dict[str, tuple[float, float]]:
        if "lte" in used:
            return {"xdsl": (10.0, 1.0), "lte": (5.0, 4.0)} if "xdsl" in used else {"xdsl": (0, 0), "lte": (5.0, 4.0)}
        return {"xdsl": (16.5, 1.0), "lte": (0.0, 0.0)}

    diary = Line(both_ways, {"xdsl": (20e6, 5e6), "lte": (10e6, 5e6)}).run(60)
    assert all(why == TRIED for _, demoted in diary for why in demoted.values())


def test_what_a_link_still_delivers_is_waited_for() -> None:
    """A second of queue: bytes over LTE come for a while after it is not used any more."""
    line = Line(throttled, RATES)
    left_at: list[float] = []

    def bloated(now: float, used: frozenset[str]) -> dict[str, tuple[float, float]]:
        if "lte" in used:
            left_at.clear()
            return only(used, xdsl=11.0, lte=1.0)
        left_at.append(now)
        if now - left_at[0] < 3.0:
            return {"xdsl": (11.0, 0.2), "lte": (1.0, 0.0)}
        return only(used, xdsl=27.0, lte=0.0)

    line.model = bloated
    diary = line.run(12)
    assert diary[1][1] == {"lte": "with it 12 Mbit/s, without it 27 Mbit/s"}


def test_links_that_come_and_go_end_a_trial() -> None:
    line = Line(throttled, RATES)
    line.run(3.5)
    assert line.governor.demoted == {"lte": TRIED}
    carried = {"xdsl": line.carried["xdsl"]}
    assert line.governor.observe(carried, carried["xdsl"], line.now + LOOK)
    assert line.governor.demoted == {}


@pytest.mark.parametrize("pause", [0.0, 30.0])
def test_what_has_stopped_for_a_while_begins_anew(pause: float) -> None:
    line = Line(throttled, RATES)
    line.run(3.5)
    line.now += pause
    line.run(LOOK)
    assert line.governor.tries is (pause == 0.0)
    assert bool(line.governor.demoted) is (pause == 0.0)


def test_another_device_counts_from_nothing() -> None:
    line = Line(healthy, RATES)
    line.run(10)
    line.carried["lte"] = (0, 0)
    assert line.run(30) == []


def test_a_far_link_is_given_time_to_start() -> None:
    """A satellite: TCP takes seconds to get going there, and holds the others up meanwhile."""
    used_since: list[float] = []

    def far(now: float, used: frozenset[str]) -> dict[str, tuple[float, float]]:
        if "lte" not in used:
            used_since.clear()
            return only(used, xdsl=19.0, lte=0.0)
        used_since.append(now)
        return only(used, xdsl=10.0, lte=1.0) if now - used_since[0] < 5 else only(used, xdsl=19.0, lte=45.0)

    line = Line(far, {"xdsl": (20e6, 5e6), "lte": (50e6, 5e6)})
    line.trips = {"xdsl": 0.03, "lte": 0.56}
    assert line.run(60) == []
    line = Line(far, {"xdsl": (20e6, 5e6), "lte": (50e6, 5e6)})
    assert line.run(60)[0] == (3.2, {"lte": TRIED})


def test_the_last_link_that_is_up_is_not_demoted() -> None:
    line = Line(throttled, RATES)
    line.run(9)
    assert "lte" in line.governor.demoted
    line.carried = {"lte": line.carried["lte"]}
    line.model = lambda _now, used: only(used, lte=1.0)
    assert line.run(60) == [(LOOK, {})]


def test_a_link_that_only_waits_for_the_other_takes_part() -> None:
    """LTE drops to next to nothing, and xDSL has nothing to carry before LTE has delivered what it was given."""
    line = Line(healthy, RATES)
    line.run(10)
    line.model = lambda _now, used: only(used, xdsl=0.0, lte=1.0) if "lte" in used else only(used, xdsl=19.0, lte=0.0)
    diary = line.run(12)
    assert diary[0][0] < 4
    assert diary[0][1] == {"lte": TRIED}
    assert diary[1][1] == {"lte": "with it 1.0 Mbit/s, without it 19 Mbit/s"}


def test_what_comes_twice_counts_once() -> None:
    """The links carry as much as ever, but the LAN gets little of it."""

    def late(_now: float, used: frozenset[str]) -> dict[str, tuple[float, float]]:
        if "lte" not in used:
            return only(used, xdsl=19.0, lte=0.0)
        line.twice[0] += int(13.0 * MEGABIT * LOOK / 8)
        return only(used, xdsl=19.0, lte=4.0)

    line = Line(late, {"xdsl": (20e6, 5e6), "lte": (10e6, 5e6)})
    assert line.run(9)[-1][1] == {"lte": "with it 10 Mbit/s, without it 19 Mbit/s"}


def test_an_upload_that_goes_twice() -> None:
    """And without LTE the box takes in nothing for a while: it has enough to send."""

    def upload(_now: float, used: frozenset[str]) -> dict[str, tuple[float, float]]:
        if "lte" in used:
            line.twice[1] += int(3.0 * MEGABIT * LOOK / 8)
            return {"xdsl": (0.0, 4.8), "lte": (0.0, 1.0)}
        line.twice[1] += int(4.8 * MEGABIT * LOOK / 8)
        return {"xdsl": (0.1, 4.8), "lte": (0.0, 0.0)}

    line = Line(upload, {"xdsl": (20e6, 5e6), "lte": (30e6, 10e6)})
    assert line.run(9)[-1][1] == {"lte": "with it 2.8 Mbit/s, without it 4.8 Mbit/s"}


def test_what_arrives_while_no_link_is_up_is_none_of_its_business() -> None:
    """The LAN's traffic with the router itself, or with another LAN."""
    governor = Governor({"xdsl": (None, None), "lte": (None, None)}, "xdsl")
    for look in range(100):
        arrived = int(look * LOOK * MEGABIT)
        assert not governor.observe({}, (arrived, arrived), 1000.0 + look * LOOK, {})
    assert not governor.demoted
