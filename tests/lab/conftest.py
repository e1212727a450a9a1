# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests marked `root` are skipped, with the reason, where no lab can be built."""

import pytest

from lab.errors import SystemLacksError
from lab.topology import check_system


@pytest.fixture(autouse=True, scope="session")
def lab_obstacle() -> str:
    """Why no lab can be built here; empty if one can."""
    try:
        check_system()
    except SystemLacksError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _skip_without_root(request: pytest.FixtureRequest, lab_obstacle: str) -> None:
    if lab_obstacle and request.node.get_closest_marker("root"):
        pytest.skip(lab_obstacle)
