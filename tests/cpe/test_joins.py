# SPDX-License-Identifier: GPL-2.0-or-later
"""Which connection gets which subflow, and when: transcripts.

A line is news (>>) or an order (<<). Connections are numbers, links have their names (0 is the first subflow's place),
`>> found 1 0 lte, 2 0` says which connections and subflows there are after a loss of news, `>> after 1` lets a second
pass, `>> up xdsl lte` says which links are up. The links: xdsl is the primary one and up from the beginning, lte has
both families, sat only IPv6, gsm only IPv4.
"""

import errno
import socket
import tracemalloc
from dataclasses import replace

import pytest

from common.netlink import attribute
from common.path_events import (
    Announced,
    Closed,
    Created,
    Endpoint,
    Established,
    JoinFailed,
    PathEvent,
    SubflowClosed,
    SubflowEstablished,
)
from cpe.joins import Joins, Leave, Link, Order, Prioritize
from cpe.steering import DEFAULT, Lane, Use

V4, V6 = socket.AF_INET, socket.AF_INET6
XDSL = Link("xdsl", 1, 11, {V4: "198.51.100.2", V6: "2001:db8:1::2"}, primary=True)
LTE = Link("lte", 2, 12, {V4: "198.51.100.66", V6: "2001:db8:2::2"})
SAT = Link("sat", 3, 13, {V6: "2001:db8:3::2"})
GSM = Link("gsm", 4, 14, {V4: "198.51.100.130"})
LINKS = {link.name: link for link in (XDSL, LTE, SAT, GSM)}

HAG4, HAG6 = "203.0.113.1", "2001:db8:f::1"
FIRST = Endpoint("198.51.100.2", 40000)  # of the first subflow

# What the kernel tells of it: 4 bytes of head; addresses, ports, in the order of enum mptcp_event_attr
TOLD = bytes(4) + b"".join(
    attribute(kind, value)
    for kind, value in (
        (5, socket.inet_aton(FIRST.address)),
        (7, socket.inet_aton(HAG4)),
        (9, FIRST.port.to_bytes(2, "big")),
        (10, (443).to_bytes(2, "big")),
    )
)

# All that a connection needs before it is joined
READY4 = (">> created 1", ">> established 1 4", f">> announced 1 {HAG4} 1", ">> grown 1")
READY6 = (">> created 1", ">> established 1 6", f">> announced 1 {HAG6} 1", ">> grown 1")

LTE4 = f"<< join 1 lte 198.51.100.66 to {HAG4} port 9001 id 1"
LTE6 = f"<< join 1 lte 2001:db8:2::2 to {HAG6} port 9001 id 1"
XDSL4 = f"<< join 1 xdsl 198.51.100.2 to {HAG4} port 9001 id 1"
LEAVE_FIRST = f"<< leave 1 198.51.100.2 port 40000 id 0 to {HAG4} port 443"
LEAVE_XDSL = f"<< leave 1 198.51.100.2 port 50000 id 1 to {HAG4} port 9001"
TAKE_BACK = f"<< leave 1 198.51.100.66 port 0 id 2 to {HAG4} port 9001"
LEAVE_LTE = f"<< leave 1 198.51.100.66 port 50000 id 2 to {HAG4} port 9001"
SAT6 = f"<< join 1 sat 2001:db8:3::2 to {HAG6} port 9001 id 1"


def joins_of(*links: Link) -> Joins:
    joins = Joins()
    joins.use((XDSL, *links))
    return joins


class Player:
    """Joins with a clock, told by lines of a transcript."""

    def __init__(self, *links: Link, configured: tuple[Endpoint, ...] = ()) -> None:
        self.joins = Joins(configured)
        self.joins.use((XDSL, *links))
        self.now = 1000.0

    def play(self, *lines: str) -> None:
        """Feeds the news of the transcript and compares what the whole transcript then is."""
        heard = []
        for line in lines:
            if line.startswith(">> "):
                heard += [line, *map(self._written, self.hear(line[3:].split()))]
        assert heard == list(lines)

    def hear(self, words: list[str]) -> list[Order]:
        match words:
            case ["after", seconds]:
                self.now += float(seconds)
                return self.joins.retry(self.now)
            case ["up", *names]:
                return self.joins.use(LINKS[name] for name in names)
            case ["renumbered", name, address]:
                others = [link for link in LINKS.values() if link.id in self.joins._links and link.name != name]
                return self.joins.use([*others, replace(LINKS[name], addresses={V4: address})])
            case ["found", *_]:
                told = [one.split() for one in " ".join(words[1:]).split(", ")]
                remote = Endpoint(HAG4, 9001, 1)
                found = {int(token): [(local(link), remote) for link in links] for token, *links in told}
                return self.joins.reconcile(found, self.now)
            case ["grown", token]:
                return self.joins.grown(int(token), (DEFAULT, "xdsl"), self.now)
            case ["grown", token, policy]:
                return self.joins.grown(int(token), (policy, "xdsl"), self.now)
            case ["plan", *uses]:
                return self.steer({(DEFAULT, "xdsl"): uses})
            case _:
                return self.joins.handle(read(words), self.now)

    def steer(self, plans: dict[Lane, list[str]]) -> list[Order]:
        """Uses are written as lte=backup."""
        words = {lane: [use.split("=") for use in uses] for lane, uses in plans.items()}
        self.joins.steer({lane: {name: Use(use) for name, use in uses} for lane, uses in words.items()}, self.now)
        return self.joins.retry(self.now)

    def _written(self, order: Order) -> str:
        local, remote = order.local, f"{order.remote.address} port {order.remote.port}"
        if isinstance(order, Leave):
            return f"<< leave {order.token} {local.address} port {local.port} id {local.id} to {remote}"
        if isinstance(order, Prioritize):
            assert order.remote.port
            which = f"{local.address} port {local.port} id {local.id}"
            return f"<< {'backup' if order.backup else 'carry'} {order.token} {which}"
        link = next(link for link in LINKS.values() if link.id == local.id)
        assert local.device == link.device
        assert local.port == 0
        backup = " as a backup" if order.backup else ""
        return f"<< join {order.token} {link.name} {local.address} to {remote} id {order.remote.id}{backup}"


def read(words: list[str]) -> PathEvent:
    """One piece of news."""
    token = int(words[1])
    match words:
        case ["created", _]:
            return Created(token)
        case ["closed", _]:
            return Closed(token)
        case ["established", _, family]:
            return Established(token, {"4": V4, "6": V6}[family], TOLD)
        case ["announced", _, address, number]:
            return Announced(token, Endpoint(address, 9001, int(number)))
        case ["subflow", _, link]:
            return SubflowEstablished(token, local(link), Endpoint(HAG4, 9001, 1))
        case ["subflow-closed", _, link]:
            return SubflowClosed(token, local(link), Endpoint(HAG4, 9001, 1), errno.ETIMEDOUT)
        case ["join-failed", _, link, error]:
            return JoinFailed(token, local(link).id, getattr(errno, error))
    raise AssertionError(words)


def local(link: str) -> Endpoint:
    """Our end of a subflow: of a link, or with an id that is none of our links'."""
    if link.isdigit():
        return Endpoint(FIRST.address, FIRST.port, int(link))
    addresses = LINKS[link].addresses
    return Endpoint(addresses.get(V4) or addresses[V6], 50000, LINKS[link].id, LINKS[link].device)


@pytest.mark.parametrize(
    "order",
    [
        (">> established 1 4", f">> announced 1 {HAG4} 1", ">> grown 1"),
        (">> established 1 4", ">> grown 1", f">> announced 1 {HAG4} 1"),
        (f">> announced 1 {HAG4} 1", ">> established 1 4", ">> grown 1"),
        (f">> announced 1 {HAG4} 1", ">> grown 1", ">> established 1 4"),
        (">> grown 1", ">> established 1 4", f">> announced 1 {HAG4} 1"),
        (">> grown 1", f">> announced 1 {HAG4} 1", ">> established 1 4"),
    ],
)
def test_joined_when_the_last_of_three_things_is_known(order: tuple[str, str, str]) -> None:
    Player(LTE).play(">> created 1", *order, LTE4)


def test_one_subflow_for_each_link_and_only_one() -> None:
    player = Player(LTE, SAT)
    player.play(*READY6, LTE6, SAT6)
    player.play(">> grown 1", ">> subflow 1 lte", ">> grown 1", ">> subflow 1 sat", f">> announced 1 {HAG6} 1")
    player.play(">> grown 1", ">> after 3600")


def test_no_link_no_order() -> None:
    Player().play(*READY4)


def test_connections_do_not_mix() -> None:
    Player(LTE).play(
        ">> created 1",
        ">> created 2",
        ">> established 1 4",
        ">> grown 2",
        f">> announced 1 {HAG4} 1",
        f">> announced 2 {HAG4} 1",
        ">> grown 1",
        LTE4,
        ">> established 2 4",
        LTE4.replace("join 1", "join 2"),
    )


# Families


def test_ipv4_connection_takes_no_ipv6_subflow() -> None:
    player = Player(LTE, SAT)
    player.play(">> created 1", ">> established 1 4", ">> grown 1", f">> announced 1 {HAG6} 1")
    player.play(f">> announced 1 {HAG4} 2", LTE4.replace("id 1", "id 2"))


def test_ipv6_connection_prefers_ipv6() -> None:
    Player(LTE).play(
        ">> created 1", ">> established 1 6", f">> announced 1 {HAG4} 2", f">> announced 1 {HAG6} 1", ">> grown 1", LTE6
    )


def test_ipv6_connection_takes_ipv4_if_that_is_all_that_the_hag_has() -> None:
    Player(LTE, SAT).play(">> created 1", ">> established 1 6", f">> announced 1 {HAG4} 1", ">> grown 1", LTE4)


def test_ipv6_connection_takes_ipv4_if_that_is_all_that_the_link_has() -> None:
    Player(GSM).play(
        ">> created 1",
        ">> established 1 6",
        f">> announced 1 {HAG6} 1",
        ">> grown 1",
        f">> announced 1 {HAG4} 2",
        f"<< join 1 gsm 198.51.100.130 to {HAG4} port 9001 id 2",
    )


def test_an_address_announced_anew_replaces_the_former_one_of_its_id() -> None:
    Player(LTE).play(
        ">> created 1",
        ">> established 1 4",
        ">> announced 1 203.0.113.77 1",
        f">> announced 1 {HAG4} 1",
        ">> grown 1",
        LTE4,
    )


# Failures


def test_a_subflow_that_fails_is_tried_again_after_twice_the_wait_each_time() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4)
    for wait in (1, 2, 4, 8, 16, 30, 30):
        player.play(">> subflow-closed 1 lte", f">> after {wait - 0.01}", ">> after 0.01", LTE4)


def test_an_order_that_the_kernel_does_not_take_is_tried_again_likewise() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4)
    for wait in (1, 2, 4, 8, 16, 30, 30):
        player.play(">> join-failed 1 lte ENOTCONN", f">> after {wait - 0.01}", ">> after 0.01", LTE4)


def test_a_subflow_that_was_up_starts_with_the_shortest_wait_again() -> None:
    player = Player(LTE)
    player.play(
        *READY4, LTE4, ">> subflow-closed 1 lte", ">> after 1", LTE4, ">> subflow-closed 1 lte", ">> after 2", LTE4
    )
    player.play(">> subflow 1 lte", ">> after 500", ">> subflow-closed 1 lte", ">> after 0.99", ">> after 0.01", LTE4)


def test_news_during_the_wait_does_not_shorten_it() -> None:
    Player(LTE).play(
        *READY4,
        LTE4,
        ">> subflow-closed 1 lte",
        ">> grown 1",
        f">> announced 1 {HAG4} 1",
        ">> after 0.5",
        ">> after 0.5",
        LTE4,
    )


def test_a_try_goes_to_the_address_that_is_announced_now() -> None:
    Player(LTE).play(
        *READY4,
        LTE4,
        ">> subflow-closed 1 lte",
        ">> announced 1 203.0.113.2 1",
        ">> after 1",
        "<< join 1 lte 198.51.100.66 to 203.0.113.2 port 9001 id 1",
    )


def test_one_link_fails_and_the_other_is_left_alone() -> None:
    player = Player(LTE, SAT)
    player.play(*READY6, LTE6, SAT6, ">> subflow 1 lte", ">> subflow-closed 1 sat", ">> after 1", SAT6)
    assert player.joins.links_of(1) == ("lte",)


def test_an_order_that_fails_does_not_repeat_one_under_way_on_another_link() -> None:
    """The kernel's no to one order arrives while the other subflow's handshake goes on."""
    player = Player(LTE, SAT)
    player.play(*READY6, LTE6, SAT6, ">> join-failed 1 sat ENETUNREACH", ">> subflow 1 lte", ">> after 1", SAT6)


def test_two_orders_that_fail_at_once_are_both_tried_again_after_the_first_wait() -> None:
    player = Player(LTE, SAT)
    player.play(
        *READY6, LTE6, SAT6, ">> join-failed 1 lte ENOTCONN", ">> join-failed 1 sat ENOTCONN", ">> after 1", LTE6, SAT6
    )


def test_after_the_end_of_the_first_subflow_its_link_is_used_like_the_others() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> subflow-closed 1 0", XDSL4)
    assert player.joins.lost_first(1)
    player.play(">> subflow 1 xdsl", ">> after 3600")
    assert player.joins.links_of(1) == ("lte", "xdsl")
    assert player.joins.next_retry() is None


def test_next_retry_is_the_earliest() -> None:
    player = Player(LTE, SAT)
    assert player.joins.next_retry() is None
    player.play(*READY6, LTE6, SAT6, ">> subflow-closed 1 sat", ">> after 0.25", ">> subflow-closed 1 lte")
    assert player.joins.next_retry() == 1001.0
    player.play(">> after 0.75", SAT6)
    assert player.joins.next_retry() == 1001.25
    player.play(">> after 0.25", LTE6)
    assert player.joins.next_retry() is None


# Connections that are not, or no more, ours


@pytest.mark.parametrize(
    "news",
    [
        ">> established 7 4",
        f">> announced 7 {HAG4} 1",
        ">> grown 7",
        ">> subflow 7 lte",
        ">> subflow-closed 7 lte",
        ">> join-failed 7 lte ECONNREFUSED",
        ">> closed 7",
    ],
)
def test_unknown_tokens_are_passed_over(news: str) -> None:
    player = Player(LTE)
    player.play(news, ">> after 60")
    assert player.joins.links_of(7) == ()
    # Nor is it remembered for one that has the token later.
    player.play(">> created 7", ">> established 7 4", f">> announced 7 {HAG4} 1")


def test_a_connection_of_another_program_gets_no_subflow_of_ours() -> None:
    """Its token was told by the kernel, but no worker has told of it."""
    player = Player(LTE)
    player.play(*READY4[:-1], ">> subflow 1 lte", ">> subflow-closed 1 lte", ">> after 60")


def test_a_subflow_of_another_program_with_an_id_of_its_own() -> None:
    player = Player(LTE)
    player.play(*READY4[:-1], ">> subflow 1 77", ">> subflow-closed 1 77", ">> after 60")


def test_links_of_a_connection_with_a_subflow_that_we_did_not_order() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> subflow 1 77")
    assert player.joins.links_of(1) == ("lte",)


def test_nothing_is_ordered_or_remembered_after_the_end() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow-closed 1 lte", ">> closed 1")
    assert player.joins.next_retry() is None
    player.play(
        ">> after 60", ">> grown 1", f">> announced 1 {HAG4} 1", ">> established 1 4", ">> subflow-closed 1 lte"
    )
    assert player.joins.links_of(1) == ()


def test_a_token_that_comes_back_is_a_new_connection() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> subflow-closed 1 lte", ">> created 1", ">> after 60")
    assert player.joins.links_of(1) == ()
    player.play(*READY4[1:], LTE4)


def test_no_memory_of_connections_that_are_over() -> None:
    player = Player(LTE, SAT)
    for _ in range(50):
        player.play(
            *READY6, LTE6, SAT6, ">> subflow 1 lte", ">> subflow-closed 1 lte", ">> subflow-closed 1 sat", ">> closed 1"
        )
    assert not player.joins._known
    assert not player.joins._retries


def test_links_of_names_those_that_are_up() -> None:
    player = Player(LTE, SAT)
    player.play(*READY6, LTE6, SAT6)
    assert player.joins.links_of(1) == ()
    player.play(">> subflow 1 sat")
    assert player.joins.links_of(1) == ("sat",)
    player.play(">> subflow 1 lte")
    assert set(player.joins.links_of(1)) == {"lte", "sat"}
    player.play(">> subflow-closed 1 sat")
    assert player.joins.links_of(1) == ("lte",)


# Where to


def test_a_configured_address_takes_the_place_of_announced_ones() -> None:
    """Whoever answers our first SYN may announce what he likes, for instance a third party's address."""
    player = Player(LTE, configured=(Endpoint(HAG6, 9001),))
    player.play(
        ">> created 1",
        ">> announced 1 203.0.113.66 5",
        ">> announced 1 2001:db8:bad::1 6",
        ">> grown 1",
        ">> established 1 6",
        f"<< join 1 lte 2001:db8:2::2 to {HAG6} port 9001 id 0",
    )


# A connection that has lost everything


def test_without_any_subflow_orders_end() -> None:
    """The kernel counts to net.mptcp.close_timeout, 60 s, from the last order: then the connection may end."""
    player = Player(LTE)
    player.play(
        *READY4,
        *(LTE4, ">> subflow 1 lte", ">> subflow-closed 1 0", XDSL4, ">> join-failed 1 xdsl ENETUNREACH"),
        *(">> subflow-closed 1 lte", ">> after 1", XDSL4, LTE4),
    )
    player.play(">> subflow-closed 1 xdsl", ">> subflow-closed 1 lte", ">> after 2", XDSL4, LTE4)
    player.play(">> subflow-closed 1 xdsl", ">> subflow-closed 1 lte", ">> after 30")
    assert player.joins.next_retry() is None


def test_a_subflow_that_comes_back_is_new_hope() -> None:
    player = Player(LTE)
    player.play(
        *READY4, LTE4, ">> subflow 1 lte", ">> subflow-closed 1 0", XDSL4, ">> subflow-closed 1 lte", ">> after 1", LTE4
    )
    player.play(">> subflow 1 lte", ">> after 100", ">> subflow-closed 1 lte", ">> after 1", LTE4)


def test_while_the_first_subflow_lives_orders_do_not_end() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow-closed 1 lte", ">> after 1000", LTE4)


# Thousands of connections


def test_what_thousands_hear_of_the_same_gateway_is_kept_once() -> None:
    """By the allocator's own account: tracemalloc."""
    joins, connections = joins_of(LTE), 2000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for token in range(1 << 20, (1 << 20) + connections):
            joins.handle(Created(token), 0.0)
            joins.handle(Established(token, V4), 0.0)
            joins.handle(Announced(token, Endpoint(".".join(HAG4.split(".")), 9001, 1)), 0.0)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / connections < 300  # bytes; 405 where each has its own


def test_strangers_announcements_are_not_kept_for_ever() -> None:
    joins = joins_of(LTE)
    joins.handle(Created(1), 0.0)
    tracemalloc.start()
    try:
        for number in range(20_000):
            joins.handle(Announced(1, Endpoint(HAG4, number, 1)), 0.0)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000  # bytes


# Links that come and go


def test_a_subflow_whose_link_goes_down_is_closed_and_comes_back_with_it() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> up xdsl", LEAVE_LTE)
    assert player.joins.links_of(1) == ()
    player.play(">> subflow-closed 1 lte", ">> after 3600", ">> up xdsl lte", LTE4, ">> subflow 1 lte")
    assert player.joins.links_of(1) == ("lte",)


def test_the_first_subflow_likewise() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> up lte", LEAVE_FIRST, ">> subflow-closed 1 0", ">> after 60")
    assert player.joins.lost_first(1)
    player.play(">> up xdsl lte", XDSL4, ">> subflow 1 xdsl", ">> up lte", LEAVE_XDSL, ">> up xdsl lte", XDSL4)


def test_a_connection_that_has_not_grown_is_saved_too() -> None:
    """But gets no more than that: its own link back means nothing to it."""
    player = Player(LTE)
    player.play(*READY4[:-1], ">> up lte", LTE4, ">> subflow 1 lte", LEAVE_FIRST, ">> up xdsl lte")


def test_nothing_is_closed_that_is_all_there_is() -> None:
    """It may be up again soon, and go on."""
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> up", ">> after 1", ">> up xdsl", LEAVE_LTE)
    assert not player.joins.lost_first(1)


def test_what_is_on_its_way_over_a_link_that_goes_down_is_forgotten() -> None:
    player = Player(LTE)
    player.play(
        *READY4, LTE4, ">> up xdsl", TAKE_BACK, ">> subflow-closed 1 lte", ">> after 60", ">> up xdsl lte", LTE4
    )


def test_a_link_that_goes_down_while_a_subflow_waits_to_be_tried_again() -> None:
    player = Player(LTE)
    player.play(
        *READY4, LTE4, ">> subflow-closed 1 lte", ">> up xdsl", TAKE_BACK, ">> after 60", ">> up xdsl lte", LTE4
    )


def test_another_address_is_another_link() -> None:
    player = Player(LTE)
    player.play(
        *(*READY4, LTE4, ">> subflow 1 lte", ">> renumbered lte 198.51.100.99", LEAVE_LTE),
        LTE4.replace("198.51.100.66", "198.51.100.99"),
        ">> subflow-closed 1 lte",  # the old one's
    )


def test_the_primary_link_has_another_address() -> None:
    player = Player(LTE)
    player.play(
        *(*READY4, LTE4, ">> subflow 1 lte", ">> renumbered xdsl 198.51.100.3", LEAVE_FIRST),
        XDSL4.replace("198.51.100.2", "198.51.100.3"),
    )


def test_over_ipv6_the_first_subflow_has_the_clients_address() -> None:
    Player(LTE).play(*READY6, LTE6, ">> subflow 1 lte", ">> up xdsl lte")


def test_a_connection_on_a_single_link_follows_it_to_another_address() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> up lte", LEAVE_FIRST)
    player.play(">> renumbered lte 198.51.100.99", LEAVE_LTE, LTE4.replace("198.51.100.66", "198.51.100.99"))


def test_an_order_that_failed_is_taken_back_before_its_link_has_another_address() -> None:
    """The kernel keeps an id for the address that it was first ordered with (net/mptcp/pm_userspace.c)."""
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow-closed 1 lte")
    player.play(">> renumbered lte 198.51.100.99", TAKE_BACK, LTE4.replace("198.51.100.66", "198.51.100.99"))


def test_a_try_that_is_due_while_everything_is_down_is_made_when_its_link_is_up() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow-closed 1 lte", ">> up", ">> after 1", TAKE_BACK, ">> up xdsl lte", LTE4)


def test_a_link_that_appears_late() -> None:
    Player().play(*READY4, ">> up xdsl lte", LTE4)


def test_the_old_subflows_end_is_not_the_new_ones() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> up xdsl", LEAVE_LTE, ">> up xdsl lte", LTE4)
    new = Endpoint("198.51.100.66", 50001, 2, 12)
    player.joins.handle(SubflowEstablished(1, new, Endpoint(HAG4, 9001, 1)), player.now)
    player.play(">> subflow-closed 1 lte", ">> after 60")
    assert player.joins.links_of(1) == ("lte",)


def test_the_hag_is_where_most_connections_hear_that_it_is() -> None:
    joins = joins_of(LTE)
    assert joins.gateways() == ()

    def announce(address: str, times: int = 1) -> None:
        for token in range(times):
            joins.handle(Created(token), 0.0)
            joins.handle(Announced(token, Endpoint(address, 9001, 1)), 0.0)

    announce("192.0.2.66")  # who comes first is believed until there are others
    assert joins.gateways() == ("192.0.2.66",)
    announce(HAG4, 2)
    assert joins.gateways() == (HAG4,)
    announce(HAG4, 1000)
    announce("192.0.2.66", 15)
    announce(HAG6)
    assert joins.gateways() == (HAG4, HAG6)
    announce("192.0.2.66", 20)  # another HAG is in its place
    assert joins.gateways() == ("192.0.2.66", HAG6)
    joins.configured = (Endpoint("203.0.113.7", 9001),)
    assert joins.gateways() == ("203.0.113.7",)


# Plans

STANDBY = ">> plan xdsl=carry lte=backup"
LTE_STANDS_BY = "<< backup 1 198.51.100.66 port 50000 id 2"
LTE_CARRIES = "<< carry 1 198.51.100.66 port 50000 id 2"
FIRST_STANDS_BY = "<< backup 1 198.51.100.2 port 40000 id 0"
FIRST_CARRIES = "<< carry 1 198.51.100.2 port 40000 id 0"


def test_a_backup_is_ordered_as_one_and_told_to_be_one() -> None:
    """Not every kernel takes the flag of the order; nobody confirms what is told, so it is told several times."""
    player = Player(LTE)
    player.play(STANDBY, *READY4, f"{LTE4} as a backup", ">> subflow 1 lte", LTE_STANDS_BY)
    assert player.joins.backups_of(1) == ["lte"]
    assert player.joins.next_retry() == player.now + 1
    player.play(">> after 0.99", ">> after 0.01", LTE_STANDS_BY, ">> after 2.99", ">> after 0.01", LTE_STANDS_BY)
    assert player.joins.next_retry() == player.now + 9
    player.play(">> after 9", LTE_STANDS_BY, ">> after 3600")
    assert player.joins.next_retry() is None


def test_a_subflow_becomes_a_backup_and_carries_again() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", STANDBY, LTE_STANDS_BY, ">> after 1", LTE_STANDS_BY, STANDBY)
    player.play(">> plan xdsl=carry lte=carry", LTE_CARRIES, ">> after 1", LTE_CARRIES, ">> after 3", LTE_CARRIES)
    player.play(">> after 9", LTE_CARRIES, ">> after 3600")
    assert player.joins.backups_of(1) == []


def test_what_is_out_of_date_is_not_told_again() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", STANDBY, LTE_STANDS_BY, ">> after 0.5")
    player.play(">> plan xdsl=carry lte=carry", LTE_CARRIES, ">> after 0.5", ">> after 0.5", LTE_CARRIES)
    player.play(STANDBY, LTE_STANDS_BY, ">> closed 1", ">> after 3600")
    assert player.joins.next_retry() is None


def test_what_changes_to_and_fro_is_told_again_of_the_last_time_only() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", STANDBY, LTE_STANDS_BY, ">> after 0.2")
    player.play(">> plan xdsl=carry lte=carry", LTE_CARRIES, ">> after 0.2", STANDBY, LTE_STANDS_BY)
    player.play(
        ">> after 0.6", ">> after 0.2", ">> after 0.2", LTE_STANDS_BY, ">> after 2.9", ">> after 0.1", LTE_STANDS_BY
    )


def test_the_first_subflow_becomes_a_backup_and_carries_again() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> plan xdsl=backup lte=carry", FIRST_STANDS_BY)
    assert player.joins.backups_of(1) == ["xdsl"]
    player.play(">> after 1", FIRST_STANDS_BY, STANDBY, FIRST_CARRIES, LTE_STANDS_BY)
    player.play(">> after 1", FIRST_CARRIES, LTE_STANDS_BY, ">> subflow-closed 1 0", XDSL4, ">> subflow 1 xdsl")
    assert player.joins.backups_of(1) == ["lte"]


def test_a_connection_that_grows_goes_by_the_plan_there_is() -> None:
    player = Player(LTE)
    player.play(">> plan xdsl=backup lte=carry", *READY4, LTE4, FIRST_STANDS_BY)


def test_a_connection_that_has_not_grown_is_left_alone() -> None:
    player = Player(LTE)
    player.play(*READY4[:-1], ">> plan xdsl=backup lte=carry", ">> after 60")


def test_a_plan_that_changes_while_a_subflow_is_under_way() -> None:
    player = Player(LTE)
    player.play(
        STANDBY,
        *READY4,
        f"{LTE4} as a backup",
        ">> plan xdsl=carry lte=carry",
        ">> subflow 1 lte",
        LTE_CARRIES,
    )
    assert player.joins.backups_of(1) == []


def test_a_link_that_is_to_have_no_subflows() -> None:
    player = Player(LTE)
    player.play(">> plan xdsl=carry lte=none", *READY4, ">> after 60")
    player.play(STANDBY, f"{LTE4} as a backup", ">> subflow 1 lte", LTE_STANDS_BY)
    player.play(">> plan xdsl=carry lte=none", LEAVE_LTE, ">> subflow-closed 1 lte", ">> after 60")


def test_nothing_is_left_that_is_all_there_is() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> up lte", LEAVE_FIRST, ">> subflow-closed 1 0")
    player.play(">> plan xdsl=carry lte=none", LTE_STANDS_BY, ">> up xdsl lte", XDSL4, ">> subflow 1 xdsl")
    player.play(">> plan xdsl=carry lte=none", LEAVE_LTE)


def test_a_first_subflow_stays_even_so() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> plan xdsl=none lte=carry", FIRST_STANDS_BY)


def test_a_try_on_a_link_that_is_wanted_no_more_is_not_made() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow-closed 1 lte", ">> plan xdsl=carry lte=none", TAKE_BACK, ">> after 60")


def test_each_policy_has_a_plan_and_one_that_is_no_more_has_the_default_ones() -> None:
    player = Player(LTE)
    ready = (*READY4[:-1], ">> grown 1 games")
    player.steer({(DEFAULT, "xdsl"): ["lte=carry"], ("games", "xdsl"): ["lte=backup"]})
    player.play(*ready, f"{LTE4} as a backup", ">> subflow 1 lte", LTE_STANDS_BY)
    player.play(">> plan lte=carry", LTE_CARRIES)


def test_how_many_have_grown() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> grown 1")
    assert player.joins.grown_now == 1
    player.play(">> created 1")
    assert player.joins.grown_now == 0
    player.play(*READY4[1:], LTE4, ">> closed 1")
    assert player.joins.grown_now == 0


def test_a_plan_is_carried_out_a_hundred_connections_at_a_time() -> None:
    player = Player(LTE)
    for token in range(1, 251):
        for news in READY4:
            player.hear(f"{news} ".replace(" 1 ", f" {token} ", 1).removeprefix(">> ").split())
        player.hear(["subflow", str(token), "lte"])
    counts = [len(player.steer({(DEFAULT, "xdsl"): ["lte=backup"]}))]
    while player.joins.next_retry() == player.now:
        counts.append(len(player.joins.retry(player.now)))
    assert counts == [100, 100, 50]
    for pause in (1, 3, 9):
        player.now += pause
        while player.joins.next_retry() == player.now:
            counts.append(len(player.joins.retry(player.now)))
    assert counts == [100, 100, 50] * 4
    assert player.joins.next_retry() is None


# News that is lost


def test_a_connection_that_is_not_there_is_forgotten() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow-closed 1 lte", ">> found 2 0", ">> after 3600", ">> grown 1")
    assert player.joins.next_retry() is None
    assert not player.joins._known


def test_without_news_of_its_end_it_is_forgotten_after_some_refusals() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4)
    for wait in (1, 2):
        player.play(">> join-failed 1 lte EINVAL", f">> after {wait}", LTE4)
    player.play(">> join-failed 1 lte EINVAL", ">> after 3600", ">> grown 1")
    assert player.joins.next_retry() is None
    assert not player.joins._known


def test_another_answer_in_between_shows_that_it_is_there() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4)
    for wait, error in enumerate(("EINVAL", "EINVAL", "ENOTCONN", "EINVAL", "EINVAL")):
        player.play(f">> join-failed 1 lte {error}", f">> after {min(2**wait, 30)}", LTE4)


def test_a_subflow_that_came_up_unheard() -> None:
    player = Player(LTE, SAT)
    player.play(*READY6, LTE6, SAT6, ">> found 1 0 lte sat", ">> after 3600")
    assert player.joins.links_of(1) == ("lte", "sat")


def test_a_subflow_that_went_down_unheard() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> found 1 0")
    assert player.joins.links_of(1) == ()
    player.play(">> after 0.99", ">> after 0.01", LTE4)


def test_an_order_that_was_refused_unheard() -> None:
    Player(LTE).play(*READY4, LTE4, ">> found 1 0", ">> after 1", LTE4)


def test_a_first_subflow_that_went_down_unheard() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> found 1 lte", XDSL4)
    assert player.joins.lost_first(1)


def test_all_subflows_down_unheard() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> found 1", XDSL4, ">> after 1", LTE4)
    player.play(">> join-failed 1 lte ENETUNREACH", ">> join-failed 1 xdsl ENETUNREACH", ">> after 30")


def test_a_look_that_finds_what_was_known_changes_nothing() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> subflow 1 lte", ">> found 1 0 lte", ">> found 1 0 lte", ">> after 3600")
    player.play(">> subflow-closed 1 lte", ">> found 1 0", ">> after 1", LTE4)


def test_a_link_that_went_down_meanwhile_is_left_once_the_connection_is_known_to_have_another() -> None:
    player = Player(LTE)
    player.play(*READY4, LTE4, ">> up lte", ">> found 1 0 lte", LEAVE_FIRST)


def test_a_connection_that_is_not_established_yet_has_lost_nothing() -> None:
    player = Player(LTE)
    player.play(">> created 1", ">> found 1", *READY4[1:], LTE4)
    assert not player.joins.lost_first(1)


def test_what_one_connection_announces_costs_no_more_than_a_hag_does() -> None:
    joins = joins_of(LTE)
    for token, address in ((1, HAG4), (2, "192.0.2.66")):
        joins.handle(Created(token), 0.0)
        joins.handle(Announced(token, Endpoint(address, 9001, 1)), 0.0)
    for number in range(1000):
        joins.handle(Announced(2, Endpoint("192.0.2.66", 9001, number % 256)), 0.0)
        joins.handle(Announced(2, Endpoint(f"192.0.2.{number % 256}", 9001, number % 255)), 0.0)
    assert joins.gateways() == (HAG4,), "a connection has one vote"
    assert len(joins._known[2].announced) == 8
