# SPDX-License-Identifier: GPL-2.0-or-later
"""The picture: as wide as asked, the accesses stacked in their order."""

import pytest

from lab.picture import picture, stacked

RATES = {"xdsl": [20.0] * 50, "lte": [0.0] * 25 + [30.0] * 25}


@pytest.mark.parametrize("width", [60, 80, 200])
def test_width(width: int) -> None:
    lines = picture(RATES, 0.1, width=width).splitlines()
    assert max(map(len, lines)) == width


def test_accesses_are_stacked_from_the_bottom() -> None:
    lines = picture(RATES, 0.1, width=80, height=20, title="down").splitlines()
    assert lines[0].strip() == "down  ▓ xdsl  ░ lte"
    left, right = ("".join(line[column] for line in lines[2:-3]) for column in (20, 70))
    assert left.strip("▓").strip() == ""
    assert right.lstrip().rstrip("▓").strip("░") == ""
    assert right.count("▓") == left.count("▓")
    assert len(right) / len(left.strip()) == pytest.approx(2.5, abs=0.5)


def test_what_has_happened_is_marked_and_told() -> None:
    text = picture(RATES, 0.1, [(1.25, "xdsl is cut"), (3.75, "it is mended")], width=80, height=20)
    *lines, first, second = text.splitlines()
    assert (first, second) == ("a   1.2 s  xdsl is cut", "b   3.8 s  it is mended")
    # as high as the rates, where the time of the event is
    columns = {letter: {line.index(letter) for line in lines[1:-3] if letter in line} for letter in "ab"}
    (left,), (right,) = columns.values()
    assert (left, right) == (pytest.approx(23, abs=2), pytest.approx(61, abs=2))


def test_stacked() -> None:
    assert stacked([[1, 2], [3, 4], [5, 6]]) == [[1, 2], [4, 6], [9, 12]]
