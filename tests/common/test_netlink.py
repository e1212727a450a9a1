# SPDX-License-Identifier: GPL-2.0-or-later
"""Netlink's messages byte by byte, and a kernel that answers."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from common import netlink
from common.netlink import ROUTE, Netlink, attribute, attributes, find_family, message, messages, nested
from lab.netns import Namespace

GET_LINK, NEW_LINK, SET_LINK = 18, 16, 19
LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change


def test_attributes_are_padded_and_read_again() -> None:
    written = attribute(1, b"abc") + nested(2, attribute(3, b"\1\0\0\0")) + attribute(9, b"")
    assert written[:8] == struct.pack("=HH", 7, 1) + b"abc\0"
    assert len(written) % 4 == 0
    told = attributes(written)
    assert (told[1], told[9]) == (b"abc", b"")
    assert attributes(told[2]) == {3: b"\1\0\0\0"}


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"\0\0\0\0", b"\3\0\1\0", b"\1\0\1\0\1\0\1\0"],
    ids=["nothing", "half a head", "length 0", "length 3", "length 1, twice"],
)
def test_what_is_no_attribute_ends_the_reading(data: bytes) -> None:
    assert attributes(data) == {}


def test_an_attribute_longer_than_its_message_has_what_is_there() -> None:
    assert attributes(struct.pack("=HH", 100, 5) + b"ab") == {5: b"ab"}


def test_messages_in_a_row() -> None:
    data = message(20, netlink.ACK, 7, b"abcde") + b"\0\0\0" + message(21, 0, 8, b"")
    assert list(messages(data)) == [(20, netlink.REQUEST | netlink.ACK, 7, b"abcde"), (21, netlink.REQUEST, 8, b"")]


@pytest.mark.parametrize("length", [0, 15])
def test_a_message_of_no_length_ends_the_reading(length: int) -> None:
    assert list(messages(struct.pack("=IHHII", length, 20, 0, 1, 0) * 2)) == []


@pytest.fixture
def kernel(namespace: Namespace) -> Iterator[Netlink]:
    namespace.configure(["link add left type veth peer name right"])
    with contextlib.closing(Netlink(ROUTE)) as kernel:
        yield kernel


def names(told: list[bytes]) -> set[str]:
    return {netlink.text(attributes(one, LINK.size)[3]) for one in told}  # IFLA_IFNAME


@pytest.mark.root
def test_a_question_a_dump_and_an_order(kernel: Netlink) -> None:
    index = socket.if_nametoindex("left")
    assert names([kernel.ask(GET_LINK, LINK.pack(0, 0, index, 0, 0))]) == {"left"}
    assert {"lo", "left", "right"} <= names(kernel.dump(GET_LINK, LINK.pack(0, 0, 0, 0, 0)))
    kernel.order(SET_LINK, LINK.pack(0, 0, index, 1, 1))  # IFF_UP
    assert LINK.unpack_from(kernel.ask(GET_LINK, LINK.pack(0, 0, index, 0, 0)))[3] & 1


@pytest.mark.root
def test_a_no_is_an_error_and_the_next_question_is_answered(kernel: Netlink) -> None:
    with pytest.raises(OSError, match="No such device") as refused:
        kernel.ask(GET_LINK, LINK.pack(0, 0, 4711, 0, 0))
    assert refused.value.errno == errno.ENODEV
    assert names([kernel.ask(GET_LINK, LINK.pack(0, 0, 1, 0, 0))]) == {"lo"}


@pytest.mark.root
def test_families_of_generic_netlink() -> None:
    before = os.listdir("/proc/self/fd")
    number, groups = find_family("mptcp_pm")
    assert number >= netlink.FIRST_KIND
    assert groups["mptcp_pm_events"] > 0
    with pytest.raises(OSError, match="No such file") as unknown:
        find_family("no such")
    assert unknown.value.errno == errno.ENOENT
    assert os.listdir("/proc/self/fd") == before
