# SPDX-License-Identifier: GPL-2.0-or-later
"""Which links carry in each mode: transcripts.

A line is what happens (>>) or what is decided (<<). `>> xdsl 20 for 1` lets xdsl carry 20 Mbit/s down for a second,
`>> xdsl 1 4.5 for 1` with 4.5 Mbit/s up besides, `>> rtt xdsl 300` is milliseconds. Numbers last until others come.
xdsl carries 20 and 5 Mbit/s and is the primary link, lte 30 and 10.
"""

from dataclasses import replace
from itertools import pairwise

from common import config
from common.policy import Steering as Mode
from cpe.capacity import Carried
from cpe.steering import DEFAULT, Allowed, Change, Steering, Use

LOOK = 0.1  # seconds

LTE = """
config link 'lte'
    option device 'wwan0'
    option role 'secondary'
    option rate_down '30mbit'
    option rate_up '10mbit'
"""
SAT = """
config link 'sat'
    option device 'sat0'
    option role 'secondary'
    option rate_down '50mbit'
    option rate_up '5mbit'
"""
BULK = """
config policy 'bulk'
    option steering 'always'
    option dscp 'cs1'
"""
BASE = """
config cpe 'cpe'
    list lan 'lan'
    option steering '{mode}'
config link 'xdsl'
    option device 'ppp0'
    option role 'primary'
    option rate_down '20mbit'
    option rate_up '5mbit'
"""


def parsed(mode: str, more: str = LTE) -> config.CpeConfig:
    cpe = config.parse(BASE.format(mode=mode) + more, "f").cpe
    assert cpe
    return cpe


class Player:
    """Steering with a clock; all links are up at first and have been looked at once."""

    def __init__(self, mode: str, more: str = LTE, *, without_rates: bool = False) -> None:
        cpe = parsed(mode, more)
        if without_rates:
            cpe = replace(cpe, links=tuple(replace(link, rate_down=None, rate_up=None) for link in cpe.links))
        self.steering = Steering(cpe)
        self.names = list(self.steering.capacities)
        self.up = set(self.names)
        self.load = dict.fromkeys(self.names, (0.0, 0.0))
        self.rtts: dict[str, float] = {}
        self.now = 1000.0
        self.first = self.look(1)

    def look(self, count: int) -> list[str]:
        said = []
        for _ in range(count):
            carried = {
                name: Carried(down * 1e6, up * 1e6, LOOK, self.rtts.get(name)) for name, (down, up) in self.load.items()
            }
            said += [written(change) for change in self.steering.look(carried, self.up, self.now)]
            self.now += LOOK
        return said

    def play(self, *lines: str) -> None:
        """Feeds what happens and compares what the whole transcript then is."""
        heard = []
        for line in lines:
            if line.startswith(">> "):
                heard += [line, *self.hear(line[3:].split())]
        assert heard == list(lines)

    def hear(self, words: list[str]) -> list[str]:
        match words:
            case ["up", *names]:
                self.up = set(names)
            case ["rtt", name, milliseconds]:
                self.rtts[name] = float(milliseconds) / 1e3
            case ["no", "rtts"]:
                self.rtts = {}
            case ["mode", mode]:
                self.steering.adopt(parsed(mode))
            case ["restrict", name, *allowed]:
                self.steering.restricted = {name: (Allowed(" ".join(allowed)), "the quota is used up")}
            case ["demote", name]:
                self.steering.demoted = {name: "it drags others down"}
            case ["try", "without", name]:
                self.steering.demoted = {name: "tried without it"}
            case ["leave", *names]:
                self.steering.leaving = names
            case ["restore"]:
                self.steering.restricted = self.steering.demoted = {}
            case ["for", seconds]:
                return self.look(round(float(seconds) / LOOK))
            case [name, down, *up, "for", seconds]:
                self.load[name] = (float(down), float(up[0]) if up else 0.1)
                return self.look(round(float(seconds) / LOOK))
            case _:
                raise AssertionError(words)
        return self.look(1)

    def plan(self, place: str = "xdsl", policy: str = DEFAULT) -> dict[str, str]:
        return {name: use.value for name, use in self.steering.plans()[policy, place].items()}


def written(change: Change) -> str:
    return f"<< {change.link} {change.choice.use.value}: {change.choice.reason}"


# Overflow


def test_before_anything_is_full_the_primary_link_carries_alone() -> None:
    player = Player("overflow")
    assert player.first == ["<< xdsl carry: comes first", "<< lte backup: not needed so far"]
    player.play(">> xdsl 16 for 60", ">> xdsl 1 4 for 60")
    assert player.plan() == {"xdsl": "carry", "lte": "backup"}
    assert player.steering.resting


def test_a_full_primary_link_gets_help_in_less_than_half_a_second() -> None:
    player = Player("overflow")
    player.play(">> xdsl 20 for 0.3", ">> xdsl 20 for 0.1", "<< lte carry: xdsl carries 20 Mbit/s of 20 Mbit/s down")
    assert player.plan() == {"xdsl": "carry", "lte": "carry"}
    assert not player.steering.resting


def test_in_the_other_direction_as_well() -> None:
    Player("overflow").play(">> xdsl 0.1 4.9 for 0.4", "<< lte carry: xdsl carries 4.9 Mbit/s of 5 Mbit/s up")


FULL = (">> xdsl 20 for 0.4", "<< lte carry: xdsl carries 20 Mbit/s of 20 Mbit/s down")


def test_help_stays_for_as_long_as_all_that_is_carried_would_fill_the_primary_link() -> None:
    player = Player("overflow")
    player.play(*FULL, ">> lte 30 for 10", ">> xdsl 12 for 10", ">> lte 2.5 for 10", ">> xdsl 0.1 for 0.3")


def test_help_goes_once_all_has_fitted_for_three_seconds() -> None:
    player = Player("overflow")
    player.play(*FULL, ">> lte 4 for 1", ">> xdsl 8 for 3", ">> for 0.3")
    player.play(">> for 0.1", "<< lte backup: 12 Mbit/s down and 200 kbit/s up fit on xdsl")
    assert player.steering.resting


def test_a_pause_shorter_than_that_does_not_count() -> None:
    player = Player("overflow")
    player.play(*FULL)
    for _ in range(5):
        player.play(">> xdsl 0 for 2.9", ">> xdsl 20 for 1")


def test_what_would_fit_one_way_and_not_the_other_does_not_fit() -> None:
    player = Player("overflow")
    player.play(*FULL, ">> lte 0 3 for 1", ">> xdsl 2 3 for 20")


def test_links_come_one_after_the_other_and_go_likewise() -> None:
    player = Player("overflow", LTE + SAT)
    player.play(*FULL, ">> for 10", ">> lte 29 for 0.4", "<< sat carry: lte carries 29 Mbit/s of 30 Mbit/s down")
    player.play(">> lte 14 for 3", ">> for 0.4", "<< sat backup: 34 Mbit/s down and 200 kbit/s up fit on xdsl and lte")
    player.play(
        ">> lte 0 for 1",
        ">> xdsl 10 for 3",
        ">> for 0.4",
        "<< lte backup: 10 Mbit/s down and 200 kbit/s up fit on xdsl",
    )


def test_a_link_that_goes_down_is_replaced_and_comes_back_in_its_place() -> None:
    player = Player("overflow")
    player.play(">> up lte", "<< lte carry: comes first", "<< xdsl none: down")
    player.play(">> up lte xdsl", "<< xdsl carry: comes first", "<< lte backup: not needed so far")


def test_help_that_goes_down_is_no_help() -> None:
    player = Player("overflow")
    player.play(*FULL, ">> up xdsl", "<< lte none: down", ">> for 5")
    player.play(">> up xdsl lte", "<< lte carry: xdsl carries 20 Mbit/s of 20 Mbit/s down")


def test_a_full_link_that_is_tried_without_for_a_while_comes_back_beside_its_help() -> None:
    player = Player("overflow")
    player.play(*FULL, ">> lte 30 for 1")
    player.play(">> demote xdsl", "<< xdsl backup: it drags others down", ">> xdsl 0 for 4")
    player.play(">> restore", "<< xdsl carry: comes first", ">> xdsl 20 for 5")


def test_without_rates_help_comes_goes_and_rests_as_well() -> None:
    """The way up has carried acknowledgements and nothing else, so nobody knows what it can."""
    player = Player("overflow", without_rates=True)
    player.play(">> xdsl 10 0.2 for 0.3", "<< lte carry: xdsl carries 7.5 Mbit/s of 7.5 Mbit/s down")
    player.play(">> lte 3 0.06 for 1", ">> xdsl 7 0.14 for 10", ">> lte 0 0.001 for 0.4", ">> xdsl 0.1 0.002 for 2.8")
    player.play(">> for 0.5", "<< lte backup: 100 kbit/s down and 3 kbit/s up fit on xdsl")
    assert player.steering.resting
    player.play(">> xdsl 9 0.18 for 0.4", "<< lte carry: xdsl carries 9 Mbit/s of 10 Mbit/s down")


def test_an_upload_over_a_way_whose_rate_is_not_known_does_not_fit_on_it() -> None:
    player = Player("overflow", without_rates=True)
    player.play(">> xdsl 10 0.2 for 0.3", "<< lte carry: xdsl carries 7.5 Mbit/s of 7.5 Mbit/s down")
    player.play(">> lte 0 0.3 for 0.4", ">> xdsl 0 0.1 for 10")


def test_when_all_links_are_down_nothing_is_remembered_of_their_load() -> None:
    player = Player("overflow")
    player.play(*FULL, ">> up", "<< xdsl none: down", "<< lte none: down")
    assert player.steering.resting
    player.play(
        ">> xdsl 0 for 1",
        ">> up xdsl lte",
        "<< xdsl carry: comes first",
        "<< lte backup: xdsl carries 20 Mbit/s of 20 Mbit/s down",
    )


# The others


def test_always() -> None:
    player = Player("always")
    assert player.first == ["<< xdsl carry: all links carry", "<< lte carry: all links carry"]
    player.play(">> xdsl 20 for 10")


def test_active_standby() -> None:
    player = Player("active-standby")
    assert player.first == ["<< xdsl carry: comes first", "<< lte backup: waits until it is the only one"]
    player.play(">> xdsl 20 for 10")
    player.play(">> up lte", "<< lte carry: comes first", "<< xdsl none: down")
    player.play(">> up xdsl lte", "<< xdsl carry: comes first", "<< lte backup: waits until it is the only one")


def test_smallest_delay_follows_the_round_trips_and_comes_back() -> None:
    player = Player("smallest-delay")
    assert player.first == ["<< xdsl carry: xdsl comes first", "<< lte backup: xdsl comes first"]
    player.play(">> rtt lte 60", ">> rtt xdsl 30", ">> for 10", ">> rtt xdsl 85", ">> for 10")
    away = "a round trip over xdsl takes 300 ms, over lte 60 ms"
    player.play(">> rtt xdsl 300", ">> for 0.4")
    player.play(">> for 0.1", f"<< xdsl backup: {away}", f"<< lte carry: {away}")
    assert not player.steering.resting
    player.play(">> rtt xdsl 61", ">> for 10", ">> rtt xdsl 45", ">> for 2.8")
    back = "a round trip over lte takes 60 ms, over xdsl 45 ms"
    player.play(">> for 0.3", f"<< xdsl carry: {back}", f"<< lte backup: {back}")
    assert player.steering.resting


def test_smallest_delay_stays_for_a_while_where_it_has_moved() -> None:
    """With the traffic may go what makes packets wait."""
    player = Player("smallest-delay")
    player.play(">> rtt lte 60", ">> rtt xdsl 30", ">> rtt xdsl 300", ">> for 0.4")
    assert player.look(1)
    player.play(">> rtt lte 300", ">> rtt xdsl 30", ">> for 2.7")
    back = "a round trip over lte takes 300 ms, over xdsl 30 ms"
    player.play(">> for 0.1", f"<< xdsl carry: {back}", f"<< lte backup: {back}")


def test_traffic_that_goes_to_and_fro_does_so_ever_more_slowly() -> None:
    """It takes the long round trip with it."""
    player = Player("smallest-delay")
    moves = []
    for look in range(2000):
        slow = player.steering.choices(Mode.SMALLEST_DELAY)["xdsl"].use is Use.CARRY
        player.rtts = {"xdsl": 0.3, "lte": 0.06} if slow else {"xdsl": 0.03, "lte": 0.4}
        moves += [look] if player.look(1) else []
    gaps = [round((later - sooner) * LOOK) for sooner, later in pairwise(moves)]
    assert gaps == [3, 6, 12, 24, 48, 60]


def test_smallest_delay_forgives_what_is_over_soon() -> None:
    player = Player("smallest-delay")
    player.play(">> rtt lte 60", ">> rtt xdsl 30")
    for _ in range(10):
        player.play(">> rtt xdsl 300", ">> for 0.3", ">> rtt xdsl 30")


def test_smallest_delay_goes_back_where_no_round_trip_is_known() -> None:
    player = Player("smallest-delay")
    player.play(">> rtt lte 60", ">> rtt xdsl 30", ">> rtt xdsl 300", ">> for 0.4")
    assert player.look(1)
    player.play(">> for 60", ">> no rtts", ">> for 2.8")
    player.play(">> for 0.3", "<< xdsl carry: xdsl comes first", "<< lte backup: xdsl comes first")


def test_smallest_delay_leaves_a_link_that_is_down() -> None:
    player = Player("smallest-delay")
    player.play(">> rtt lte 60", ">> rtt xdsl 30", ">> up lte", "<< lte carry: lte comes first", "<< xdsl none: down")
    player.play(">> up xdsl lte", "<< xdsl backup: lte comes first", ">> for 0.4")
    back = "a round trip over lte takes 60 ms, over xdsl 30 ms"
    player.play(">> for 0.1", f"<< xdsl carry: {back}", f"<< lte backup: {back}")


def test_load_balancing_gives_each_flow_one_link_in_proportion_to_their_rates() -> None:
    player = Player("load-balancing")
    places = [player.steering.place() for _ in range(10)]
    assert (places.count("xdsl"), places.count("lte")) == (4, 6)
    assert all(len(set(places[start : start + 3])) == 2 for start in range(8))  # in turn
    assert player.plan("xdsl") == {"xdsl": "carry", "lte": "backup"}
    assert player.plan("lte") == {"xdsl": "backup", "lte": "carry"}
    player.play(">> up xdsl", "<< lte none: down")
    assert [player.steering.place() for _ in range(5)] == ["xdsl"] * 5
    assert player.plan("lte") == {"xdsl": "carry", "lte": "backup"}


def test_load_balancing_takes_turns_where_a_rate_is_unknown() -> None:
    player = Player("load-balancing", LTE.replace("    option rate_down '30mbit'\n", ""))
    places = [player.steering.place() for _ in range(10)]
    assert places == [*("xdsl", "lte") * 5] or places == [*("lte", "xdsl") * 5]


# Whatever the mode


def test_a_link_that_is_for_failover_only() -> None:
    for mode in Mode:
        player = Player(mode.value)
        player.hear(["restrict", "lte", "failover", "only"])
        assert player.plan("lte") == {"xdsl": "carry", "lte": "backup"}
        assert player.steering.choices(mode)["lte"].reason == "the quota is used up"
        player.hear(["xdsl", "20", "for", "10"])
        assert player.plan("lte") == {"xdsl": "carry", "lte": "backup"}
        player.hear(["up", "lte"])
        assert player.plan("lte") == {"xdsl": "backup", "lte": "carry"}


def test_a_link_that_is_allowed_nothing() -> None:
    for mode in Mode:
        player = Player(mode.value)
        player.hear(["restrict", "lte", "none"])
        assert player.plan("lte") == {"xdsl": "carry", "lte": "none"}
        player.hear(["up", "lte"])
        assert player.plan("lte") == {"xdsl": "backup", "lte": "none"}


def test_a_demoted_link() -> None:
    player = Player("overflow")
    player.hear(["demote", "xdsl"])
    assert player.plan("xdsl") == {"xdsl": "backup", "lte": "carry"}
    assert player.steering.choices(Mode.OVERFLOW)["xdsl"].reason == "it drags others down"
    player.hear(["up", "xdsl"])
    assert player.plan("xdsl") == {"xdsl": "carry", "lte": "backup"}
    player.hear(["up", "xdsl", "lte"])
    player.hear(["restore"])
    assert player.plan("xdsl")["xdsl"] == "carry"


def test_where_each_flow_has_one_link_none_slows_others_down() -> None:
    for mode in (Mode.ACTIVE_STANDBY, Mode.SMALLEST_DELAY, Mode.LOAD_BALANCING):
        player = Player(mode.value)
        assert not player.steering.together
        player.hear(["demote", "xdsl"])
        assert player.plan("xdsl") == {"xdsl": "carry", "lte": "backup"}
    assert Player("overflow").steering.together
    assert Player("overflow", LTE + BULK).steering.together


def test_always_is_always() -> None:
    player = Player("always")
    assert not player.steering.together
    player.hear(["demote", "lte"])
    assert player.plan("xdsl") == {"xdsl": "carry", "lte": "carry"}


def test_a_demoted_link_carries_rather_than_one_that_is_restricted() -> None:
    player = Player("always")
    player.hear(["restrict", "lte", "failover", "only"])
    player.hear(["demote", "xdsl"])
    assert player.plan() == {"xdsl": "carry", "lte": "backup"}


def test_policies_have_modes_of_their_own() -> None:
    games = "config policy 'games'\n option steering 'active-standby'\n list dport '27000'\n"
    player = Player("always", LTE + games)
    assert player.first[-2:] == ["<< xdsl carry: all links carry", "<< lte carry: all links carry"]
    assert player.plan(policy="policy 'games'") == {"xdsl": "carry", "lte": "backup"}
    assert player.plan() == {"xdsl": "carry", "lte": "carry"}
    assert {it["mode"] for it in player.steering.describe()} == {"always", "active-standby"}


def test_the_mode_changes_while_it_runs() -> None:
    player = Player("always")
    player.steering.set(Mode.ACTIVE_STANDBY)
    assert player.plan() == {"xdsl": "carry", "lte": "backup"}
    player.steering.adopt(parsed("always"))  # as before
    assert player.steering.mode is Mode.ACTIVE_STANDBY
    player.steering.adopt(parsed("overflow"))
    assert player.steering.mode is Mode.OVERFLOW
    player.steering.adopt(parsed("always"))
    assert player.plan() == {"xdsl": "carry", "lte": "carry"}


def test_a_link_that_is_down_is_a_backup_should_it_be_up_before_the_next_look() -> None:
    player = Player("always")
    player.hear(["up", "xdsl"])
    assert player.steering.choices(Mode.ALWAYS)["lte"].use is Use.NONE
    assert player.plan() == {"xdsl": "carry", "lte": "backup"}


def test_before_the_first_look_nothing_is_planned() -> None:
    assert Steering(parsed("overflow")).plans() == {("", "xdsl"): {}, ("", "lte"): {}}


def test_uses_in_words() -> None:
    assert [use.value for use in Use] == ["carry", "backup", "none"]


def test_a_link_that_is_demoted_may_have_to_leave_first() -> None:
    Player("overflow").play(
        ">> leave lte",
        ">> demote lte",
        "<< lte none: it drags others down",
        ">> leave",
        "<< lte backup: it drags others down",
        ">> restore",
    )


def test_what_a_trial_has_shown_is_told_though_the_link_is_a_backup_all_the_while() -> None:
    Player("overflow").play(
        ">> leave lte",
        ">> try without lte",
        "<< lte none: tried without it",
        ">> leave",
        "<< lte backup: tried without it",
        ">> for 2",
        ">> demote lte",
        "<< lte backup: it drags others down",
        ">> for 2",
        ">> restore",
    )
