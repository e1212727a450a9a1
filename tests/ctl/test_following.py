# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers that go on coming, from one daemon or two, until one ends."""

from pathlib import Path

import pytest

from ctl.following import follow
from ctl.inquiry import Absent, Unreachable
from tests.ctl.fake_daemon import fake_daemon

ONE = b'{"ok": true, "result": [1]}\n'
TWO = b'{"ok": true, "result": [2]}\n'


def test_each_answer_comes_with_whose_it_is(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ONE + TWO), fake_daemon(tmp_path, "hag", None):
        answers = follow(["cpe", "hag"], tmp_path, "events")
        assert [next(answers), next(answers)] == [("cpe", [1]), ("cpe", [2])]
        with pytest.raises(Unreachable, match=r"^hybrid-cpe has hung up$"):
            next(answers)


def test_half_a_line_is_no_answer(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ONE + TWO[:9]):
        answers = follow(["cpe"], tmp_path, "events")
        assert next(answers) == ("cpe", [1])
        with pytest.raises(Unreachable):
            next(answers)


def test_a_refusal(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", b'{"ok": false, "error": "not now"}\n'), pytest.raises(Unreachable) as caught:
        next(follow(["cpe"], tmp_path, "events"))
    assert str(caught.value) == "hybrid-cpe does not answer 'events': not now"


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Absent):
        next(follow(["cpe"], tmp_path, "events"))
