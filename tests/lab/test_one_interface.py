# SPDX-License-Identifier: GPL-2.0-or-later
"""A gateway where both accesses arrive in the same place: subflows to its own address are nobody's lost ones."""

import pytest

from lab.bonded import Pair

pytestmark = pytest.mark.root


@pytest.mark.parametrize("family", [4, 6])
def test_subflows_come_about_where_connections_arrive(family: int) -> None:
    with Pair(hag_options={"access": ["xdsl", "lte"]}) as pair:
        moved = pair.download(family, 6_000_000)
        assert moved.intact
        assert pair.lab.lte.stats()["down"]["bytes"] > 200_000
