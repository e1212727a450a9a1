# SPDX-License-Identifier: GPL-2.0-or-later
"""What a long transfer has on its way is bounded on the box that sends it, in both directions."""

import re
import time

import pytest

from lab.access import Way
from lab.bonded import Pair
from lab.node import Node
from lab.stream import flowing

pytestmark = pytest.mark.root

PATIENCE = 20.0  # seconds


def send_buffers(node: Node) -> list[int]:
    """Bytes that each subflow may have: what the kernel gives them differs, a bound is that of all."""
    said = node.run(["ss", "-tinmHO"]).stdout
    return [int(size) for size in re.findall(r"skmem:\(.*?,tb(\d+),.*tcp-ulp-mptcp", said)]


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_long_transfer_over_two_links_is_bounded(way: Way) -> None:
    with Pair() as pair, flowing(pair.lab, 4, way):
        sender = pair.lab.cpe if way == "up" else pair.lab.hag
        seen, end = [], time.monotonic() + PATIENCE
        while time.monotonic() < end:
            seen = send_buffers(sender)
            if len(seen) == 2 and len(set(seen)) == 1:
                return
            time.sleep(0.2)
    pytest.fail(f"the subflows have {seen} bytes each")
