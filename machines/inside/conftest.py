# SPDX-License-Identifier: GPL-2.0-or-later
"""Both daemons as services, each in its node of a lab."""

from collections.abc import Iterator

import pytest

from lab.access import Kind
from lab.topology import Lab
from machines.inside.service import Service, configured


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(Kind.DIRECT) as lab:
        lab.accesses[0].cut()
        lab.accesses[0].restore()  # from now on its routes stand last, whenever that happens again
        yield lab


@pytest.fixture(scope="module")
def services(lab: Lab) -> Iterator[dict[str, Service]]:
    """Configured, not started; stopped afterwards."""
    with configured(lab) as services:
        yield services
