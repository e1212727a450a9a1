# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenarios as `hybrid-lab run` runs them, against the bounds that they state themselves."""

import pytest

from lab.scenario import all_scenarios

pytestmark = pytest.mark.root

FAMILIES = pytest.mark.parametrize("family", [4, 6])


def run(name: str, family: int) -> tuple[dict[str, object], list[str]]:
    """The figures, and the names of those that miss their bounds."""
    scenario = all_scenarios()[name]
    figures = scenario.run(family, print)
    return figures, [bound.figure for bound in scenario.missed(figures)]


@pytest.mark.parametrize("family", [4, pytest.param(6, marks=pytest.mark.full)])  # more than a minute each
def test_bonding(family: int) -> None:
    figures, missed = run("bonding", family)
    assert not missed, figures
    assert 0.4 < float(str(figures["lte_share_down"])) < 0.7  # LTE is 30 of 50 Mbit/s


@pytest.mark.full
@pytest.mark.parametrize("name", ["overflow", "smallest-delay"])
@FAMILIES
def test_steering(name: str, family: int) -> None:
    figures, missed = run(name, family)
    assert not missed, figures


@FAMILIES
def test_fail_open(family: int) -> None:
    figures, missed = run("fail-open", family)
    assert not missed, figures


@FAMILIES
def test_handshake_takes_one_round_trip(family: int) -> None:
    """Milliseconds are for a quiet machine (see below); that it is one round trip and not two holds on any."""
    figures, missed = run("handshake", family)
    assert "rtts" not in missed, figures


@pytest.mark.full
@FAMILIES
def test_handshake_adds_little(family: int) -> None:
    figures, missed = run("handshake", family)
    assert not missed, figures
