# SPDX-License-Identifier: GPL-2.0-or-later
"""Two configurations in; what differs, and what of that a running daemon can change, out."""

import re
from pathlib import Path

import pytest

from common import config
from common.changes import Changes, changes
from common.config import SECTIONS

DOCUMENT = Path(__file__).parents[2] / "docs/configuration.md"

CPE = """\
config cpe
	list lan 'br-lan'
	option queue '4800'
config link 'xdsl'
	option device 'pppoe-wan'
	option role 'primary'
config bypass 'ssh'
	list dport '22'
"""
HAG = """\
config hag
	list access 'vlan100'
	option join_device 'vlan200'
	list subscriber '198.51.100.0/24'
"""


def of(role: str, before: str, after: str) -> Changes:
    old, new = (getattr(config.parse(text, "f"), role) for text in (before, after))
    return changes(old, new)


@pytest.mark.parametrize(
    ("old", "new", "live", "fixed"),
    [
        ("config cpe", "config cpe # the same", (), ()),
        ("list lan 'br-lan'", "list lan 'br-lan'\n list lan 'br-guest'", ("list lan",), ()),
        ("dport '22'", "dport '23'", ("config bypass",), ()),
        (
            "config bypass 'ssh'",
            "config policy 'ssh'\n option steering 'always'",
            ("config bypass", "config policy"),
            (),
        ),
        ("option queue", "option steering 'active-standby'\n option queue", ("option steering",), ()),
        ("'pppoe-wan'", "'eth1'", (), ("config link",)),
        ("option queue '4800'", "option workers '2'\n option drain '5'", ("option drain",), ("option workers",)),
        ("option queue '4800'", "list join_address '192.0.2.1'", ("list join_address",), ()),
    ],
)
def test_of_a_home_router(old: str, new: str, live: tuple[str, ...], fixed: tuple[str, ...]) -> None:
    assert of("cpe", CPE, CPE.replace(old, new)) == Changes(live, fixed)


def test_of_a_gateway() -> None:
    new = HAG.replace("'198.51.100.0/24'", "'2001:db8::/32'").replace("'vlan200'", "'vlan201'")
    assert of("hag", HAG, new) == Changes(("list subscriber",), ("option join_device",))


def test_what_cannot_change_is_documented() -> None:
    """In the sentence that begins so; links are a section."""
    (sentence,) = re.findall(r"A restart is needed for (.*?)\.\n", DOCUMENT.read_text(), re.DOTALL)
    fixed = {name for role in ("cpe", "hag") for name, entry in SECTIONS[role].items() if not entry.live}
    assert set(re.findall(r"`(\w+)`", sentence)) == fixed
