# SPDX-License-Identifier: GPL-2.0-or-later
"""Which addresses are one subscriber's."""

import pytest

from hag.subscribers import Subscribers


@pytest.mark.parametrize(
    ("delegated", "one", "other", "same"),
    [
        (56, "192.0.2.1", "192.0.2.1", True),
        (56, "192.0.2.1", "192.0.2.2", False),
        (56, "2001:db8:0:ab00::1", "2001:db8:0:abff:ffff:ffff:ffff:ffff", True),
        (56, "2001:db8:0:ab00::1", "2001:db8:0:ac00::1", False),
        (64, "2001:db8:0:ab00::1", "2001:db8:0:ab01::1", False),
        (60, "2001:db8:0:ab00::1", "2001:db8:0:ab0f::1", True),
        (128, "2001:db8::1", "2001:db8::2", False),
        (128, "2001:db8::1", "2001:db8:0::1", True),
    ],
)
def test_one_subscriber(delegated: int, one: str, other: str, same: bool) -> None:
    subscribers = Subscribers(delegated)
    assert (subscribers.of(one) == subscribers.of(other)) is same


@pytest.mark.parametrize(
    ("delegated", "address", "name"),
    [
        (56, "192.0.2.1", "192.0.2.1"),
        (56, "2001:db8:0:abcd::1", "2001:db8:0:ab00::/56"),
        (128, "2001:db8::1", "2001:db8::1/128"),
    ],
)
def test_the_name_of_one(delegated: int, address: str, name: str) -> None:
    assert Subscribers(delegated).name(address) == name


def test_an_ipv4_subscriber_is_no_ipv6_subscriber() -> None:
    subscribers = Subscribers(128)
    assert subscribers.of("192.0.2.1") != subscribers.of("::c000:201")
