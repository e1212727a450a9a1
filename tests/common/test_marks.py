# SPDX-License-Identifier: GPL-2.0-or-later
"""Marks do not collide, leave the lower bytes alone, and are those of the ruleset."""

import re
from pathlib import Path

import pytest

from common import config, marks
from common.flow import Refusal

NFTABLES = Path(__file__).parents[2] / "nftables"
DELIVER = (NFTABLES / "deliver.nft").read_text()
CPE = (NFTABLES / "hybrid-cpe.nft").read_text()
FOREIGN = 0x00ABCDEF


def ours() -> list[int]:
    return [
        marks.GATE,
        marks.GATE_INBOUND,
        marks.INNER_LEG,
        marks.DELIVER,
        *marks.REFUSE.values(),
        *(marks.server_leg(index) for index in range(marks.MAX_LINKS)),
        *(marks.release(worker) for worker in range(marks.MAX_WORKERS)),
        *(marks.replay(worker) for worker in range(marks.MAX_WORKERS)),
        *(marks.queued(worker) for worker in range(marks.MAX_WORKERS)),
    ]


def test_each_mark_is_another_and_all_fit_into_the_byte_that_is_ours() -> None:
    assert len(set(ours())) == len(ours())
    assert all(mark and mark & ~marks.MASK == 0 for mark in ours())


def test_only_released_syns_are_at_or_above_the_first_release_mark() -> None:
    """deliver.nft tells them by that, without a list of workers."""
    released = {mark(worker) for worker in range(marks.MAX_WORKERS) for mark in (marks.release, marks.replay)}
    assert {mark for mark in ours() if mark >= marks.release(0)} == released


def test_server_legs_have_the_upper_half_of_the_byte_for_themselves() -> None:
    """hybrid-hag.nft tells them by that."""
    legs = {marks.server_leg(link) for link in range(marks.MAX_LINKS)}
    assert {mark for mark in ours() if mark & 0xF0000000 == marks.server_leg()} == legs


def test_what_begins_again_is_told_by_one_bit_from_all_else_that_leaves_this_host() -> None:
    replayed = {marks.replay(worker) for worker in range(marks.MAX_WORKERS)}
    arriving = {marks.release(worker) for worker in range(marks.MAX_WORKERS)}
    assert {mark for mark in ours() if mark & marks.REPLAYED} - arriving == replayed
    for file in ("inbound-cpe.nft", "inbound-hag.nft"):
        assert f"meta mark & {marks.REPLAYED:#x} != 0x0" in (NFTABLES / file).read_text()


def test_the_rulesets_for_connections_from_the_internet_know_their_marks() -> None:
    for file in ("inbound-cpe.nft", "inbound-hag.nft", "inbound.nft"):
        assert f"{marks.GATE_INBOUND:#x}" in (NFTABLES / file).read_text()
    assert f"== {marks.INNER_LEG:#x}" in (NFTABLES / "inbound-hag.nft").read_text()
    for answer, mark in marks.REFUSE.items():
        assert f"== {mark:#x} reject" in (NFTABLES / "inbound.nft").read_text(), answer


def test_the_ruleset_writes_the_dscp_that_a_mark_says_and_takes_it_out_of_the_mark() -> None:
    bits = re.findall(r"meta mark & (0x\w+) != 0 @nh,(\d+),1 set 1", DELIVER)
    # The traffic class of IPv6 begins at bit 4, RFC 8200 section 3, the DSCP with it, RFC 2474 section 3.
    assert bits == [(f"{marks.with_dscp(0, 1 << 9 - bit):#010x}", str(bit)) for bit in range(4, 10)]
    (kept,) = re.findall(r"^\tmeta mark set meta mark & (0x\w+)$", DELIVER, re.MULTILINE)
    for dscp in range(64):
        assert marks.with_dscp(marks.server_leg(), dscp) & int(kept, 16) == marks.server_leg()


def test_syns_whose_queue_has_nobody_lose_their_mark() -> None:
    waiting = {marks.GATE, marks.GATE_INBOUND, *(marks.queued(worker) for worker in range(marks.MAX_WORKERS))}
    bounds = re.findall(r"meta mark & 0xff000000 (0x\w+)-(0x\w+) meta mark set.*nobody at the queue", DELIVER)
    (low, high), *others = [[int(bound, 16) for bound in pair] for pair in bounds]
    assert not others
    assert {mark for mark in ours() if low <= mark <= high} == waiting


def test_as_many_workers_as_the_configuration_allows() -> None:
    assert marks.MAX_WORKERS == config.MAX_WORKERS


@pytest.mark.parametrize("mark", ours())
def test_other_peoples_bits_stay(mark: int) -> None:
    assert marks.combine(FOREIGN, mark) == FOREIGN | mark
    assert marks.combine(marks.combine(FOREIGN, mark), 0) == FOREIGN


@pytest.mark.parametrize(
    ("answer", "statement"),
    [
        (Refusal.RESET, "reject with tcp reset"),
        (Refusal.HOST_UNREACHABLE, "reject with icmpx type host-unreachable"),
        (Refusal.NO_ROUTE, "reject with icmpx type no-route"),
        (Refusal.PROHIBITED, "reject with icmpx type admin-prohibited"),
    ],
)
def test_the_ruleset_gives_each_refusal_its_packet(answer: Refusal, statement: str) -> None:
    (line,) = [line for line in DELIVER.splitlines() if statement in line and not line.startswith("#")]
    assert f"meta mark & {marks.MASK:#x} == {marks.REFUSE[answer]:#x} {statement}" in line


def test_the_ruleset_knows_the_other_marks() -> None:
    assert f">= {marks.release(0):#x}" in DELIVER
    assert f"| {marks.GATE:#x}" in DELIVER
    assert f"== {marks.INNER_LEG:#x}" in DELIVER
    written = {f"{mark:#x}" for mark in (marks.GATE, marks.DELIVER, marks.REPLAYED)}
    assert set(re.findall(r"meta mark & 0x00ffffff \| (\w+)", DELIVER)) == written


def test_what_the_kernel_answers_by_itself_is_known_by_the_marks_of_what_arrives_and_ends_here() -> None:
    between = {mark for mark in ours() if marks.DELIVER <= mark <= max(marks.REFUSE.values())}
    assert between == {marks.DELIVER, *marks.REFUSE.values()}
    for file in ("hybrid-cpe.nft", "hybrid-hag.nft"):
        assert f'iifname != "lo" meta mark & {marks.MASK:#x} != 0x0 meta mark set' in (NFTABLES / file).read_text()
        text = (NFTABLES / file).read_text()
        assert f"< {min(between):#x} accept" in text
        assert f"> {max(between):#x} accept" in text


def test_what_is_forwarded_where_it_began_has_marks_of_its_own() -> None:
    began = [marks.began(link) for link in range(marks.MAX_BEGAN)]
    assert not set(began) & set(ours())
    chains = re.findall(r"chain began_(\d) \{ meta mark set meta mark & 0x00ffffff \| (\w+); \}", CPE)
    assert chains == [(str(link), f"{mark:#x}") for link, mark in enumerate(began)]


def test_nothing_of_ours_acts_on_the_mark_of_what_is_forwarded_where_it_began() -> None:
    """An ICMP error of this host for it has its mark (net.ipv4.fwmark_reflect), which must not be for a leg of ours."""
    assert not {marks.began(link) & marks.REPLAYED for link in range(marks.MAX_BEGAN)} - {0}
    assert all(marks.began(link) & 0xF0000000 != marks.server_leg() for link in range(marks.MAX_BEGAN))
    assert "type filter hook prerouting priority mangle + 10" in CPE
    assert "hook prerouting priority mangle + 5" in DELIVER
