# SPDX-License-Identifier: GPL-2.0-or-later
"""What nftables has to know of the links, in a real table."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from common import config, table
from common.loop import Loop
from common.routing import Routing
from cpe.accesses import Accesses
from cpe.daemon import _install_rules
from lab.netns import Namespace

pytestmark = pytest.mark.root

TEXT = """
config cpe
    list lan 'lan'
config link 'xdsl'
    option device 'ppp0'
    option role 'primary'
config link 'stick'
    option device 'usb0'
    option role 'secondary'
config link 'other'
    option device 'usb1'
    option role 'secondary'
"""


@pytest.fixture
def access(namespace: Namespace) -> Iterator[Accesses]:
    """Of two modems that route by themselves, and give the router the same address."""
    namespace.configure(
        [
            line
            for device in ("usb0", "usb1")
            for line in (
                f"link add {device} type veth peer name far{device[-1]}",
                f"link set far{device[-1]} up",
                f"address add 192.168.8.100/24 dev {device}",
                f"link set {device} up",
                f"route add default via 192.168.8.1 dev {device} metric {device[-1]}00",
            )
        ]
    )
    parsed = config.parse(TEXT, "f").cpe
    assert parsed
    with ExitStack() as undo:
        loop = Loop()
        undo.callback(loop.close)
        routing = undo.enter_context(closing(Routing()))
        access = undo.enter_context(closing(Accesses(loop, parsed, routing)))
        install(access)
        yield access


def install(access: Accesses) -> None:
    _install_rules(ExitStack(), access._config, access, workers=1)


def began(namespace: Namespace) -> object:
    listed = json.loads(namespace.run(["nft", "--json", "list", "map", "inet", table.NAME, "began"]).stdout)
    (elements,) = (it["map"].get("elem", []) for it in listed["nftables"] if "map" in it)
    return elements


def test_two_links_with_one_address(namespace: Namespace, access: Accesses, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        access._fill()
    assert began(namespace) == [["192.168.8.100", {"goto": {"target": "began_1"}}]]
    (warning,) = caplog.messages
    assert warning.startswith("links stick and other have the same address, 192.168.8.100")


def test_a_table_that_is_put_in_again_is_filled_again(namespace: Namespace, access: Accesses) -> None:
    access._fill()
    before = began(namespace)
    namespace.run(["nft", "flush", "ruleset"])
    install(access)
    access._fill()
    assert began(namespace) == []  # nothing has changed, as far as it knows
    access.fill_again()
    assert began(namespace) == before
