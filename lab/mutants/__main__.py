# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes each mutant and runs the rows that must see it: `python -m lab.mutants [WORD ...]`.

All of them, or those whose names have one of the words in them. Exit status: 0 if every fault was seen by all its rows,
1 if not, 2 wrong command line, 3 the system lacks something, 130 ^C.
"""

import sys
from collections.abc import Sequence

from lab.errors import LabError, SystemLacksError
from lab.mutants.faults import FAULTS
from lab.mutants.mutation import Mutation, complaint, look
from lab.topology import check_system

OK, FAILED, USAGE, LACKS, INTERRUPTED = 0, 1, 2, 3, 130
WIDTH = 120  # characters of a reason


def main(words: Sequence[str]) -> int:
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    if not chosen:
        print(f"no mutant's name has {' or '.join(words)} in it", file=sys.stderr)
        return USAGE
    try:
        check_system()
        return hunt(chosen)
    except SystemLacksError as error:
        print(error, file=sys.stderr)
        return LACKS
    except LabError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def hunt(faults: Sequence[Mutation]) -> int:
    """Says of each who saw it, and how; the rows are run without any fault first."""
    if wrong_without := sound(faults):
        print("\n".join(["without any fault:", *wrong_without]))
        return FAILED
    survivors = 0
    for fault in faults:
        try:
            seen = look(fault.rows, fault.family, fault)
            words, red = complaint(fault, seen), seen.red
        except SystemLacksError:
            raise
        except LabError as error:
            words, red = str(error), {}
        survivors += bool(words)
        verdict = f"SURVIVES: {words}" if words else f"seen by {' '.join(red)}"
        print(f"{fault.name}\n    {verdict}")
        for row, why in red.items():
            print(f"        {row}  {why.splitlines()[0][:WIDTH]}", flush=True)
    print(f"{len(faults) - survivors} of {len(faults)} mutants were seen by every row that must see them")
    return FAILED if survivors else OK


def sound(faults: Sequence[Mutation]) -> list[str]:
    """The rows that are not green without any fault, and why: from them nothing follows."""
    complaints = []
    for family in sorted({fault.family for fault in faults}):
        rows = sorted({row for fault in faults if fault.family == family for row in fault.rows})
        print(f"without any fault, IPv{family}: {' '.join(rows)}", flush=True)
        seen = look(rows, family)
        complaints += [f"{row}, IPv{family}: {why}" for row, why in {**seen.red, **seen.skipped}.items()]
    return complaints


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
