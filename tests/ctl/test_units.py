# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures as people read them, at the edges of each unit."""

import pytest

from ctl.units import duration, endpoint, number, rate, volume


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (1024**2 - 1, "1.00 MiB"),  # not 1024.00 KiB
        (1024**2, "1.00 MiB"),
        (1363656000, "1.27 GiB"),
        (5 * 1024**4, "5.00 TiB"),
        (1024**6, "1024.00 PiB"),
    ],
)
def test_volume(count: int, shown: str) -> None:
    assert volume(count) == shown


@pytest.mark.parametrize(
    ("bits", "shown"),
    [
        (0, "0 bit/s"),
        (999, "999 bit/s"),
        (1000, "1.0 kbit/s"),
        (999_949, "999.9 kbit/s"),
        (999_960, "1.0 Mbit/s"),  # not 1000.0 kbit/s
        (12_345_678, "12.3 Mbit/s"),
        (2_500_000_000, "2.5 Gbit/s"),
        (2_500_000_000_000, "2500.0 Gbit/s"),
    ],
)
def test_rate(bits: int, shown: str) -> None:
    assert rate(bits) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "under a second"),
        (0.999, "under a second"),
        (1, "1 second"),
        (59.99, "59 seconds"),
        (60, "1 minute"),
        (72.4, "1 minute, 12 seconds"),
        (3600, "1 hour"),
        (3601, "1 hour"),  # the two largest units only
        (7380, "2 hours, 3 minutes"),
        (86400 + 3600, "1 day, 1 hour"),
        (400 * 86400 + 59, "400 days"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_number() -> None:
    assert [number(count, "subflow") for count in (0, 1, 2)] == ["0 subflows", "1 subflow", "2 subflows"]


def test_endpoint() -> None:
    assert endpoint("192.0.2.1", 80) == "192.0.2.1:80"
    assert endpoint("2001:db8::1", 80) == "[2001:db8::1]:80"
