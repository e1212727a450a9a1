# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's messages about paths, byte by byte. (That it sends such: test_path_manager.py.)"""

import socket
import struct

import pytest

from common.path_events import (
    Announced,
    Closed,
    Created,
    Endpoint,
    Established,
    PathEvent,
    SubflowClosed,
    SubflowEstablished,
    ends,
    read,
)

TOKEN = (1, "I", 0xC0FFEE01)
FAMILY4, FAMILY6 = (2, "H", socket.AF_INET), (2, "H", socket.AF_INET6)
LOC_ID, REM_ID = (3, "B", 2), (4, "B", 1)
ERROR, DEVICE = (12, "B", 111), (15, "I", 7)
SERVER_SIDE = (18, "B", 0)


def message(kind: int, *attributes: tuple[int, str, object]) -> bytes:
    """struct genlmsghdr and attributes: type, format and value; addresses are text, ports and addresses big-endian."""
    written = struct.pack("=BBH", kind, 1, 0)
    for number, form, value in attributes:
        if form == "address":
            assert isinstance(value, str)
            data = socket.inet_pton(socket.AF_INET6 if ":" in value else socket.AF_INET, value)
        else:
            data = struct.pack(form if form.startswith(">") else f"={form}", value)
        written += struct.pack("=HH", 4 + len(data), number) + data + bytes(-len(data) % 4)
    return written


ENDS4 = ((5, "address", "198.51.100.66"), (7, "address", "203.0.113.1"), (9, ">H", 40000), (10, ">H", 9001))
ENDS6 = ((6, "address", "2001:db8:2::2"), (8, "address", "2001:db8:f::1"), (9, ">H", 40000), (10, ">H", 9001))


ESTABLISHED = message(2, TOKEN, SERVER_SIDE, FAMILY6, *ENDS6)


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (message(1, TOKEN, SERVER_SIDE, FAMILY4, *ENDS4), Created(0xC0FFEE01)),
        (ESTABLISHED, Established(0xC0FFEE01, socket.AF_INET6, ESTABLISHED)),
        (message(3, TOKEN), Closed(0xC0FFEE01)),
        (
            message(6, TOKEN, REM_ID, (7, "address", "203.0.113.1"), (10, ">H", 9001)),
            Announced(0xC0FFEE01, Endpoint("203.0.113.1", 9001, 1)),
        ),
        (
            message(10, TOKEN, FAMILY6, LOC_ID, REM_ID, *ENDS6, (11, "B", 0), DEVICE),
            SubflowEstablished(0xC0FFEE01, Endpoint("2001:db8:2::2", 40000, 2, 7), Endpoint("2001:db8:f::1", 9001, 1)),
        ),
        (
            message(11, TOKEN, FAMILY4, LOC_ID, REM_ID, *ENDS4, DEVICE, ERROR),
            SubflowClosed(0xC0FFEE01, Endpoint("198.51.100.66", 40000, 2, 7), Endpoint("203.0.113.1", 9001, 1), 111),
        ),
        (
            message(11, TOKEN, *ENDS4),  # the first subflow, ended in order
            SubflowClosed(0xC0FFEE01, Endpoint("198.51.100.66", 40000), Endpoint("203.0.113.1", 9001), 0),
        ),
        (message(15, FAMILY4, *ENDS4), None),  # a listener's
        (message(13, TOKEN, FAMILY4, *ENDS4), None),  # a priority's
        (message(3), None),
        (message(3) + b"xy", None),
    ],
    ids=["created", "established", "closed", "announced", "joined", "broken", "ended", "listener", "other", "-", "cut"],
)
def test_read(data: bytes, event: PathEvent | None) -> None:
    assert read(data) == event


def test_ends_are_read_where_they_are_wanted() -> None:
    assert ends(ESTABLISHED) == (Endpoint("2001:db8:2::2", 40000), Endpoint("2001:db8:f::1", 9001))


def test_an_attribute_of_no_length_ends_the_message() -> None:
    assert read(message(3) + bytes(8) + message(3, TOKEN)[4:]) is None
    assert read(message(3, TOKEN) + bytes(8)) == Closed(0xC0FFEE01)
