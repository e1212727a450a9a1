# SPDX-License-Identifier: GPL-2.0-or-later
"""The rate of each access over time, stacked, drawn in characters: their sum is the upper edge.

What has happened meanwhile is a column of one letter each, which are explained below.
"""

from collections.abc import Mapping, Sequence
from string import ascii_lowercase

import plotext

SHADES = "▓░▒"  # from the bottom up; they tell apart without colours too


def picture(
    rates: Mapping[str, Sequence[float]],
    interval: float,
    marks: Sequence[tuple[float, str]] = (),
    *,
    width: int = 80,
    height: int = 16,
    title: str = "",
) -> str:
    """Lines of text. `rates` are Mbit/s in each interval (seconds), by access, the first one at the bottom;
    all must be of the same length, which is at least one. `marks` are what has happened, and when (seconds).
    """
    figure = plotext.figure
    figure.clear()
    plotext.terminal.limit(False, False)  # as large as asked, whatever the terminal
    figure.theme("colorless")
    figure.plot_size(width, height)
    times = [interval * index for index in range(len(next(iter(rates.values()))))]
    # the upper ones first, the lower ones over them
    for shade, heights in reversed(list(zip(SHADES, stacked(list(rates.values())), strict=False))):
        area = figure.signal(times, heights, marker=shade)
        area.lines()
        area.fillx()
        figure.draw(area)
    top = max(map(sum, zip(*rates.values(), strict=True)))
    lettered = list(zip(ascii_lowercase, marks, strict=False))
    for letter, (when, _) in lettered:
        figure.draw(figure.segment((when, when), (0, top), marker=letter))
    figure.ruler("y").lim(0)
    legend = "  ".join(f"{shade} {name}" for shade, name in zip(SHADES, rates, strict=False))
    figure.title(f"{title}  {legend}".strip())
    figure.label("seconds", "x")
    figure.label("Mbit/s", "y")
    text: str = figure.build().string(colorless=True)
    return "\n".join([text.rstrip(), *(f"{letter} {when:5.1f} s  {what}" for letter, (when, what) in lettered)])


def stacked(layers: Sequence[Sequence[float]]) -> list[list[float]]:
    """For each layer, the upper edge of it and all below."""
    lowest = [layers[: count + 1] for count in range(len(layers))]
    return [[sum(values) for values in zip(*some, strict=True)] for some in lowest]
