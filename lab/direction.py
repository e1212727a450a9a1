# SPDX-License-Identifier: GPL-2.0-or-later
"""One direction of an emulated access, as a model: packets go in at a time and come out at a later one.

    enqueue -> queue (bounded, in bytes) -> serialiser (rate) -> wire (loss, delay, jitter) -> due

No queue has to be walked: a packet's way is settled when it comes in. The serialiser is
busy until a known time, so what waits is the time until then at the rate, and the packet leaves when the
serialiser has got through to it. All times are in seconds of one clock, which is the caller's.
"""

import heapq
import operator
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """What one direction does to packets.

    `rate` in bit/s of IP packets; `delay` in seconds; `jitter` in seconds, by which the delay varies evenly
    both ways; `loss` from 0 to 1; `queue` in bytes that may wait; `reorder` lets jitter change the order;
    `blackhole` swallows all; `strip` is the kind of the TCP option that is overwritten with NOPs; `mtu` in bytes is
    that of a link in the middle, longer packets are lost, and `tells` has it tell their sender (ICMP).
    """

    rate: float
    delay: float
    queue: int
    jitter: float = 0.0
    loss: float = 0.0
    reorder: bool = False
    blackhole: bool = False
    strip: int | None = None
    mtu: int | None = None
    tells: bool = True

    def __post_init__(self) -> None:
        """ValueError, naming the field, for what can't be."""
        if self.rate <= 0:
            raise ValueError(f"rate must be above 0 bit/s, not {self.rate:g}")
        if self.delay < 0:
            raise ValueError(f"delay must be at least 0 s, not {self.delay:g}")
        if not 0 <= self.jitter <= self.delay:
            raise ValueError(f"jitter must be from 0 to the delay of {self.delay:g} s, not {self.jitter:g}")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"loss must be from 0 to 1, not {self.loss:g}")
        if self.queue < 0:
            raise ValueError(f"queue must be at least 0 bytes, not {self.queue}")


@dataclass(slots=True)
class Counts:
    """What has become of packets so far. Those still under way are in none of these."""

    packets: int = 0  # delivered
    bytes: int = 0  # delivered
    overflow: int = 0  # met a full queue
    lost: int = 0  # on the wire, after they had taken their time there
    swallowed: int = 0  # by the blackhole
    too_big: int = 0  # for the link in the middle


class Direction:
    """The packets that are under way in one direction."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        """The same seed loses and delays the same packets of the same sequence."""
        self.shape = shape
        self.counts = Counts()
        self._random = random.Random(seed)
        self._under_way: list[tuple[float, int, float, bytes]] = []  # heap of (due, number, sent at, packet)
        self._number = 0
        self._busy_until = 0.0
        self._last_due = 0.0

    def enqueue(self, packet: bytes, now: float) -> None:
        """Takes a packet in."""
        shape = self.shape
        start = max(self._busy_until, now)
        if shape.blackhole:
            self.counts.swallowed += 1
        elif shape.mtu is not None and len(packet) > shape.mtu:
            self.counts.too_big += 1
        elif (start - now) * shape.rate / 8 + len(packet) > shape.queue:
            self.counts.overflow += 1
        else:
            self._busy_until = start + len(packet) * 8 / shape.rate
            self._put_on_wire(packet)

    def due(self, now: float) -> list[bytes]:
        """The packets that have arrived by now, in their order."""
        arrived = []
        while self._under_way and self._under_way[0][0] <= now:
            packet = heapq.heappop(self._under_way)[3]
            self.counts.packets += 1
            self.counts.bytes += len(packet)
            arrived.append(packet)
        return arrived

    def next_due(self) -> float | None:
        """When the next packet arrives, None if none is under way."""
        return self._under_way[0][0] if self._under_way else None

    def reshape(self, shape: Shape, now: float) -> None:
        """Changes the shape. A new rate holds for what waits, a blackhole for all that is under way."""
        if shape.rate != self.shape.rate:
            self._stretch(self.shape.rate / shape.rate, now)
        if shape.blackhole:
            self.counts.swallowed += len(self._under_way)
            self._under_way.clear()
        self.shape = shape

    def _put_on_wire(self, packet: bytes) -> None:
        shape, sent = self.shape, self._busy_until
        if shape.loss and self._random.random() < shape.loss:
            self.counts.lost += 1
            return
        due = sent + shape.delay
        if shape.jitter:
            due += self._random.uniform(-shape.jitter, shape.jitter)
        if not shape.reorder:
            self._last_due = due = max(due, self._last_due)
        self._number += 1
        heapq.heappush(self._under_way, (due, self._number, sent, packet))

    def _stretch(self, factor: float, now: float) -> None:
        """Makes what the serialiser has still to do last `factor` times as long."""
        before, self._under_way, self._last_due = self._under_way, [], 0.0
        for due, number, sent, packet in sorted(before, key=operator.itemgetter(1)):
            later = max(sent - now, 0.0) * (factor - 1)
            due += later
            if not self.shape.reorder:
                self._last_due = due = max(due, self._last_due)
            heapq.heappush(self._under_way, (due, number, sent + later, packet))
        self._busy_until = now + max(self._busy_until - now, 0.0) * factor
