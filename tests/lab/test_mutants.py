# SPDX-License-Identifier: GPL-2.0-or-later
"""Deliberate faults: each can still be made (quick), and its rows see it (long; `make mutants` says how)."""

import pytest

from lab.fidelity import matrix
from lab.mutants.__main__ import USAGE, main
from lab.mutants.faults import FAULTS
from lab.mutants.mutation import Drifted, Mutation, Sight, complaint, copied, look, sight
from lab.process import CHECKOUT

EACH = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))

FAULT = Mutation("late", "common/flow.py", old="a", new="b", rows=("3a", "3b"))


@EACH
def test_can_be_made(fault: Mutation) -> None:
    mutated = fault.applied((CHECKOUT / fault.file).read_text())
    if fault.file.endswith(".py"):
        compile(mutated, fault.file, "exec")


@EACH
def test_names_rows_that_there_are(fault: Mutation) -> None:
    assert fault.rows
    assert {*fault.rows} <= {row.number for row in matrix.all_rows()}


@EACH
def test_is_explained(fault: Mutation) -> None:
    assert f"\n| {fault.name} | " in (CHECKOUT / "CONTRIBUTING.md").read_text()


@pytest.mark.root
@pytest.mark.full
@EACH
def test_is_seen(fault: Mutation) -> None:
    seen = look(fault.rows, fault.family, fault)
    assert not complaint(fault, seen), seen


@pytest.mark.parametrize("source", ["", "aa"])
def test_source_that_has_changed(source: str) -> None:
    with pytest.raises(Drifted, match=r"mutant late cannot be made: common/flow.py has \d times"):
        FAULT.applied(source)


def test_is_made_in_a_copy() -> None:
    before = (CHECKOUT / "common/flow.py").read_text()
    fault = Mutation("other", "common/flow.py", old='HELD = "held"', new='HELD = "other"', rows=("1a",))
    with copied() as checkout:
        fault.apply(checkout)
        assert 'HELD = "other"' in (checkout / "common/flow.py").read_text()
        assert (checkout / "nftables/deliver.nft").exists()
    assert not checkout.exists()
    assert (CHECKOUT / "common/flow.py").read_text() == before


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Sight({"3a": "x", "3b": "y"}, {}), ""),
        (Sight({"3a": "x"}, {}), "not seen by 3b"),
        (Sight({}, {}), "not seen by 3a 3b"),
        (Sight({"3a": "x"}, {"3b": "no git"}), "3b cannot be run here: no git"),
        (Sight({"3a": "hybrid-cpe: Traceback", "3b": "y"}, {}), "the daemon fails in 3a instead"),
    ],
)
def test_complaint(seen: Sight, words: str) -> None:
    assert complaint(FAULT, seen) == words


def test_sight() -> None:
    reports = [
        {"row": "3a", "ok": True},
        {"row": "3b", "ok": False, "why": "late"},
        {"row": "3c", "ok": True, "skipped": True, "why": "no git"},
    ]
    assert sight(reports) == Sight({"3b": "late"}, {"3c": "no git"})


def test_a_mutant_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == USAGE
    assert "nonsense" in capsys.readouterr().err
