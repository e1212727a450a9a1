# SPDX-License-Identifier: GPL-2.0-or-later
"""What is concluded from looks at a Multipath TCP leg, as transcripts: bytes in, verdicts out."""

import pytest

from common.mptcp import Delivery
from common.proof import LOOKS, Looks, Proof

OPEN, CARRIED, FELL_BACK, STRIPPED = Proof.OPEN, Proof.CARRIED, Proof.FELL_BACK, Proof.STRIPPED


@pytest.mark.parametrize(
    ("looks", "verdicts"),
    [
        # bytes sent and received; acknowledged by TCP, not acknowledged by Multipath TCP
        ([(400, 0, (0, 400)), (400, 0, (400, 0))], [OPEN, CARRIED]),
        ([(90_000, 0, (30_000, 60_000))], [CARRIED]),
        ([(90_000, 0, (30_000, 90_000)), (120_000, 0, (60_000, 120_000))], [OPEN, STRIPPED]),
        ([(90_000, 0, (30_000, 90_000)), (120_000, 0, (60_000, 119_999))], [OPEN, CARRIED]),
        # a DATA_ACK that is late, and no more sent
        ([(400, 0, (400, 400)), (400, 0, (400, 400)), (400, 9, (400, 400))], [OPEN, OPEN, OPEN]),
        ([(400, 0, (0, 400)), (400, 0, (400, 400)), (900, 0, (900, 900))], [OPEN, OPEN, STRIPPED]),
        ([(400, 0, (0, 400)), (400, 9, None)], [OPEN, FELL_BACK]),
        ([(0, 9, (0, 0))], [CARRIED]),
        ([(0, 9, None)], [FELL_BACK]),
        ([(400, 0, (400, 0)), (400, 9, None)], [CARRIED, FELL_BACK]),
    ],
)
def test_verdicts(looks: list[tuple[int, int, tuple[int, int] | None]], verdicts: list[Proof]) -> None:
    one = Looks()
    judged = [one.judge(sent, received, Delivery(*told) if told else None) for sent, received, told in looks]
    assert judged == verdicts


def test_each_direction_is_looked_at_when_there_is_something_to_see() -> None:
    one = Looks()
    assert not one.due(0, 0)
    assert one.due(400, 0)
    assert one.judge(400, 0, Delivery(400, 0)) is CARRIED
    assert not one.due(800, 0)
    assert not one.over
    assert one.due(800, 9)
    assert one.judge(800, 9, Delivery(400, 400)) is CARRIED
    assert one.over


def test_it_ends() -> None:
    one = Looks()
    for _ in range(LOOKS - 1):
        assert one.judge(400, 9, Delivery(400, 400)) is OPEN
    assert one.judge(400, 9, Delivery(400, 400)) is CARRIED
    assert one.over
