# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m bench`: measures the pair beside its peers, prints tables and a plot, and files them if asked to."""

import argparse
import json
import sys
from pathlib import Path

from bench import course, report, scale
from bench.machine import machine
from lab.errors import LabError, SystemLacksError
from lab.topology import check_system

BEGIN, END = "<!-- measured: make bench writes from here -->", "<!-- to here -->"
OK, FAILED, LACKS = 0, 1, 3


def main() -> int:
    """Exit status as that of hybrid-lab: 1 failed, 3 the system lacks something."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition(": ")[2])
    parser.add_argument("--family", type=int, choices=(4, 6), default=4, help="IPv4 (the default) or IPv6")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--brief", action="store_true", help="less than a minute, with wide spreads")
    which.add_argument("--buffers", action="store_true", help="ours alone, with several values of option flow_buffer")
    which.add_argument("--crowd", action="store_true", help="only what a box takes, in a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put tables and plot between the marks in FILE")
    parser.add_argument("--scale", type=Path, metavar="FILE", help="put what a box takes between the marks in FILE")
    options = parser.parse_args()
    chosen = course.FULL
    for name, other in {"brief": course.BRIEF, "buffers": course.BUFFERS, "crowd": course.CROWD}.items():
        if getattr(options, name):
            chosen = other
    try:
        check_system()
        where = machine()
        results = course.run(chosen, options.family, words)
    except SystemLacksError as error:
        words(f"bench: {error}")
        return LACKS
    except LabError as error:
        words(f"bench: {error}")
        return FAILED
    heading = "; ".join(f"{name} {value}" for name, value in where.items()) + f"; IPv{options.family}."
    text = "\n\n".join(
        (
            heading,
            report.tables(results),
            f"```\n{report.plot(results)}\n```",
        )
    )
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        found = {
            "machine": where,
            "figures": report.figures(results),
            "samples": results.samples,
            "made again": results.again,
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.write:
        options.write.write_text(replaced(options.write.read_text(), text))
    if options.scale:
        options.scale.write_text(replaced(options.scale.read_text(), f"{heading}\n\n{scale.tables(results)}"))
    return OK


def words(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def replaced(document: str, text: str) -> str:
    """`document` with what is between the marks replaced. ValueError if it has no marks."""
    head, begin, rest = document.partition(BEGIN)
    _old, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no '{BEGIN}' followed by '{END}'")
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}"


if __name__ == "__main__":
    sys.exit(main())
