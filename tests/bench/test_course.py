# SPDX-License-Identifier: GPL-2.0-or-later
"""A measurement that comes to nothing, on a bed that measures nothing."""

from typing import Any
from unittest.mock import Mock

import pytest

from bench import course, throughput
from bench.results import Results
from lab.errors import LabError


@pytest.mark.parametrize("stalls", [0, 1, 2, 3])
def test_a_transfer_that_stalls_is_made_again(monkeypatch: pytest.MonkeyPatch, stalls: int) -> None:
    outcomes: list[Any] = [LabError("still runs after 23 s")] * stalls + [{"gbit": 1.0}]
    monkeypatch.setattr(throughput, "measure", Mock(side_effect=outcomes))
    bed, results, said = Mock(), Results(), Mock()
    bed.name = "a peer"
    if stalls < course.TRIES:
        assert course.transfer(results, bed, "down", 50, 3, said) == {"gbit": 1.0}
        assert results.again == ({"50 flows down, a peer": stalls} if stalls else {})
        assert bed.iperf.restart.call_count == said.call_count == stalls
    else:
        with pytest.raises(LabError):
            course.transfer(results, bed, "down", 50, 3, said)
