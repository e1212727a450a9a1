# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of prefixes, compared with the standard library's idea of them."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.prefixes import Network, Prefixes


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("192.0.2.0", True),
        ("192.0.2.127", True),
        ("192.0.2.128", False),
        ("192.0.1.255", False),
        ("198.51.100.7", True),  # a prefix of one address
        ("198.51.100.8", False),
        ("2001:db8:ff::", True),
        ("2001:db8:ff:ffff:ffff:ffff:ffff:ffff", True),
        ("2001:db8:100::", False),
        ("::c000:200", False),  # the same number as 192.0.2.0, of the other family
    ],
)
def test_edges_of_prefixes(address: str, inside: bool) -> None:
    networks = [ip_network(text) for text in ("192.0.2.0/25", "198.51.100.7/32", "2001:db8::/40", "192.0.2.0/26")]
    assert (address in Prefixes(networks)) is inside


def test_an_empty_set_holds_nothing() -> None:
    assert "192.0.2.1" not in Prefixes([])
    assert "::" not in Prefixes([])


def test_everything() -> None:
    everything = Prefixes([ip_network("0.0.0.0/0")])
    assert "255.255.255.255" in everything
    assert "::1" not in everything


def networks(version: int) -> st.SearchStrategy[Network]:
    return st.builds(
        lambda address, length: ip_network((int(address), length) if version == 4 else (address, length), strict=False),
        st.ip_addresses(v=4 if version == 4 else 6),
        st.integers(0, 32 if version == 4 else 128),
    )


@given(
    st.lists(st.one_of(networks(4), networks(6)), max_size=6),
    st.ip_addresses(),
    st.integers(0, 5),
    st.integers(0, 127),
)
def test_like_the_standard_library(set_of: list[Network], anywhere: object, place: int, bit: int) -> None:
    prefixes = Prefixes(set_of)
    addresses = [ip_address(str(anywhere))]
    if set_of:  # random addresses are in hardly any prefix: one that differs in a single bit from a member
        base = set_of[place % len(set_of)].network_address
        addresses.append(type(base)(int(base) ^ (1 << bit % base.max_prefixlen)))
    for address in addresses:
        assert (str(address) in prefixes) == any(address in network for network in set_of)
