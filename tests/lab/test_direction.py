# SPDX-License-Identifier: GPL-2.0-or-later
"""The model of an emulated access, as transcripts: what goes in when, and what comes out when."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.direction import Counts, Direction, Shape

# 1250 bytes take 10 ms
SHAPE = Shape(rate=1e6, delay=0.005, queue=100_000)
PACKET = bytes(1250)


def arrivals(direction: Direction) -> list[tuple[int, bytes]]:
    """All that is under way, as (time in microseconds, packet)."""
    out = []
    while (due := direction.next_due()) is not None:
        out += [(round(due * 1e6), packet) for packet in direction.due(due)]
    return out


def times(direction: Direction) -> list[int]:
    return [time for time, _ in arrivals(direction)]


def send(direction: Direction, count: int, *, start: float = 0.0, gap: float = 0.0) -> None:
    """Enqueues numbered packets of 1250 bytes."""
    for number in range(count):
        direction.enqueue(number.to_bytes(2, "big") + PACKET[2:], start + number * gap)


def numbers(direction: Direction) -> list[int]:
    return [int.from_bytes(packet[:2], "big") for _, packet in arrivals(direction)]


@pytest.mark.parametrize(
    ("shape", "sent_at_ms", "expected_us"),
    [
        (SHAPE, [0], [15_000]),
        (SHAPE, [0, 0, 0], [15_000, 25_000, 35_000]),
        (SHAPE, [0, 4, 8], [15_000, 25_000, 35_000]),
        (SHAPE, [0, 50], [15_000, 65_000]),
        (replace(SHAPE, rate=2e6), [0, 0, 0], [10_000, 15_000, 20_000]),
        (replace(SHAPE, delay=0.0), [0, 0], [10_000, 20_000]),
    ],
)
def test_rate_and_delay(shape: Shape, sent_at_ms: list[int], expected_us: list[int]) -> None:
    direction = Direction(shape)
    for at in sent_at_ms:
        direction.enqueue(PACKET, at / 1000)
    assert times(direction) == expected_us


def test_nothing_arrives_before_it_is_due() -> None:
    direction = Direction(SHAPE)
    send(direction, 2)
    assert direction.due(0.0149) == []
    assert len(direction.due(0.0151)) == 1
    assert direction.next_due() == pytest.approx(0.025)


def test_full_queue_drops_until_there_is_room() -> None:
    direction = Direction(replace(SHAPE, queue=3 * len(PACKET)))
    send(direction, 5)
    assert direction.counts.overflow == 2
    direction.enqueue(PACKET, 0.009)
    assert direction.counts.overflow == 3
    direction.enqueue(PACKET, 0.011)
    assert times(direction) == [15_000, 25_000, 35_000, 45_000]


def test_lost_packets_have_taken_their_time() -> None:
    direction = Direction(replace(SHAPE, loss=1.0))
    send(direction, 3)
    direction.reshape(replace(SHAPE, loss=0.0), 0.0)
    send(direction, 1)
    assert times(direction) == [45_000]
    assert direction.counts == Counts(packets=1, bytes=1250, lost=3)


def test_same_seed_same_losses() -> None:
    outcomes = []
    for seed in (1, 1, 2):
        direction = Direction(replace(SHAPE, loss=0.2, queue=1_000_000), seed)
        send(direction, 500)
        outcomes.append(numbers(direction))
    assert outcomes[0] == outcomes[1] != outcomes[2]
    assert 350 < len(outcomes[0]) < 450


def test_jitter_keeps_order_unless_told() -> None:
    shape = replace(SHAPE, rate=1e9, delay=0.005, jitter=0.005)
    ordered, unordered = Direction(shape), Direction(replace(shape, reorder=True))
    for direction in (ordered, unordered):
        send(direction, 50)
    assert numbers(ordered) == list(range(50))
    mixed = numbers(unordered)
    assert mixed != list(range(50))
    assert sorted(mixed) == list(range(50))


def test_jitter_is_even_around_the_delay() -> None:
    direction = Direction(replace(SHAPE, delay=0.005, jitter=0.002))
    delays = []
    for number in range(500):
        direction.enqueue(PACKET, number * 1.0)
        delays.append(times(direction)[0] - number * 1_000_000 - 10_000)
    assert 3_000 <= min(delays) < 3_200
    assert 6_800 < max(delays) <= 7_000
    assert sum(delays) / len(delays) == pytest.approx(5_000, abs=150)


def test_blackhole_swallows_what_is_under_way_and_what_comes() -> None:
    direction = Direction(SHAPE)
    send(direction, 3)
    direction.reshape(replace(SHAPE, blackhole=True), 0.001)
    send(direction, 2, start=0.002)
    assert times(direction) == []
    assert direction.counts == Counts(swallowed=5)
    direction.reshape(SHAPE, 1.0)
    direction.enqueue(PACKET, 1.0)
    assert times(direction) == [1_015_000]


@pytest.mark.parametrize(
    ("rate", "expected_us"),
    [
        # at 15 ms the first packet is on the wire, the second half sent, the third waits
        (0.5e6, [15_000, 30_000, 50_000, 70_000]),
        (2.0e6, [15_000, 22_500, 27_500, 32_500]),
    ],
)
def test_new_rate_holds_for_what_waits(rate: float, expected_us: list[int]) -> None:
    direction = Direction(SHAPE)
    send(direction, 3)
    direction.reshape(replace(SHAPE, rate=rate), 0.015)
    direction.enqueue(PACKET, 0.015)
    assert times(direction) == expected_us


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rate": 0}, "rate must be above 0 bit/s, not 0"),
        ({"jitter": 0.006}, "jitter must be from 0 to the delay of 0.005 s, not 0.006"),
        ({"delay": -1.0}, "delay must be at least 0 s, not -1"),
        ({"loss": 1.5}, "loss must be from 0 to 1, not 1.5"),
        ({"queue": -1}, "queue must be at least 0 bytes, not -1"),
    ],
)
def test_shape_that_cannot_be(change: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(SHAPE, **change)  # type: ignore[arg-type]


shapes = st.builds(
    Shape,
    rate=st.floats(1e4, 1e8),
    delay=st.just(0.02),
    queue=st.integers(0, 20_000),
    jitter=st.floats(0, 0.02),
    loss=st.floats(0, 0.5),
)
sendings = st.lists(st.tuples(st.floats(0, 0.01), st.integers(20, 1500), shapes), max_size=40)


@given(shapes, sendings)
def test_every_packet_is_accounted_for_and_in_order(
    shape: Shape,
    sendings: list[tuple[float, int, Shape]],
) -> None:
    direction = Direction(shape)
    now, arrived = 0.0, []
    for number, (pause, size, next_shape) in enumerate(sendings):
        now += pause
        arrived += direction.due(now)
        direction.enqueue(number.to_bytes(2, "big") + bytes(size), now)
        direction.reshape(next_shape, now)
    arrived += [packet for _, packet in arrivals(direction)]
    counts = direction.counts
    assert len(arrived) == counts.packets
    assert counts.packets + counts.overflow + counts.lost == len(sendings)
    assert sorted(arrived, key=lambda packet: packet[:2]) == arrived
