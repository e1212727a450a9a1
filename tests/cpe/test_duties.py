# SPDX-License-Identifier: GPL-2.0-or-later
"""Which uploads are bounded."""

import pytest

from common import config
from cpe.duties import bounds_backlog


@pytest.mark.parametrize(
    ("xdsl", "lte", "bounded"),
    [
        ("5mbit", "10mbit", True),
        ("10mbit", "30mbit", True),
        ("1mbit", "15mbit", False),
        ("10mbit", "1mbit", False),
        (None, "10mbit", False),
        (None, None, False),
    ],
)
def test_uplinks_that_are_alike(xdsl: str | None, lte: str | None, bounded: bool) -> None:
    text = "config cpe\n list lan 'lan'\n"
    for name, role, rate in (("xdsl", "primary", xdsl), ("lte", "secondary", lte)):
        text += f"config link '{name}'\n option device '{name}'\n option role '{role}'\n"
        text += f" option rate_up '{rate}'\n" if rate else ""
    parsed = config.parse(text, "f").cpe
    assert parsed
    assert bounds_backlog(parsed) is bounded
