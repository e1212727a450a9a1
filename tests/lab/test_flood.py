# SPDX-License-Identifier: GPL-2.0-or-later
"""The packets of a flood: each another connection's, and all of them right to the last checksum."""

import itertools

import pytest

from common import packet
from lab.flood import Sources, Target, _Packets, _syn


@pytest.mark.parametrize(
    ("sources", "target", "last"),
    [
        (Sources("192.0.2.128", 60, 2), Target("203.0.113.10", 80), "192.0.2.187"),
        (Sources("2001:db8:1000:100::1", 60, 4, 256), Target("2001:db8:3000::10", 80), "2001:db8:1000:3c00::1"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_every_packet_is_right(sources: Sources, target: Target, last: str) -> None:
    templates = [bytes(12) + _syn(sources, target, capable=True)]
    packets = _Packets(templates, sources)
    size, seen = len(templates[0]), set()
    for _ in itertools.islice(packets.forever(), 12):
        for start in range(14, len(packets._data), size * 7):
            data = packets._data[start : start + size - 14]
            segment = packet.parse(data)
            assert packet.checksums_ok(data)
            assert segment.is_syn
            assert (segment.destination, segment.dport) == (target.address, target.port)
            assert segment.mp_capable is not None
            seen.add((segment.source, segment.sport))
    assert {source for source, _ in seen} >= {sources.first, last}
    assert len(seen) == 3 * -(-60 * 64 // 7), "12 batches of 1024 are three rounds"
