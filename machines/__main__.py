# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m machines PACKAGE`: installs it on a machine that boots, and runs the tests of machines/inside there."""

import argparse
import importlib.metadata
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab.errors import LabError, SystemLacksError
from lab.signals import terminable
from machines.image import SUITE, image
from machines.machine import perform
from machines.root import out_of_reach, require

CHECKOUT: Final = Path(__file__).resolve().parent.parent
CONSOLE: Final = CHECKOUT / "build/vm-console.log"
TREES: Final = ("common", "cpe", "ctl", "hag", "lab", "machines", "nftables", "setup.cfg")
# What pytest and the lab import: nothing that is compiled for this machine's Python.
LIBRARIES: Final = (
    *("iniconfig", "packaging", "pluggy", "pygments", "pytest"),
    *("markdown-it-py", "mdurl", "plotext", "rich", "uciparse"),
)
PROGRAMS: Final = ("debootstrap", "mkfs.ext4", "qemu-system-x86_64", "setpriv", "tar", "unshare")

TESTS: Final = ("machines/inside/test_service.py", "machines/inside/test_scenarios.py")
# Emulated, it is ten to twenty times slower than the machine that it runs on, which may be busy.
PATIENCE: Final = 90  # seconds for what the lab expects within 10

OK, FAILED, LACKS, INTERRUPTED = 0, 1, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status as that of hybrid-lab: 1 failed, 3 the system lacks something, 130 ^C."""
    parser = argparse.ArgumentParser(prog="python -m machines", description=__doc__.partition(": ")[2])
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="the .deb")
    parser.add_argument("--timeout", type=float, default=1200.0, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument(
        "--or-skip",
        action="store_true",
        help="where there is no disk for the machine, and Debian's mirror, to make one, cannot be reached, say so and "
        "end with status 0",
    )
    parser.add_argument("pytest", nargs=argparse.REMAINDER, help="arguments of pytest there; default: all tests")
    options = parser.parse_args(arguments)
    start = time.monotonic()

    def say(words: str) -> None:
        print(f"[{time.monotonic() - start:4.0f} s] {words}", flush=True)

    try:
        with terminable():
            require(PROGRAMS)
            try:
                disk = image(say)
            except LabError:
                if not options.or_skip or not (obstacle := out_of_reach(SUITE)):
                    raise
                say(f"SKIPPED, nothing was tested: there is no disk for the machine, and none can be made: {obstacle}")
                return OK
            say("booting")
            status = perform(
                disk,
                script(options.pytest or TESTS),
                files(options.package),
                say,
                options.timeout,
                CONSOLE,
            )
    except LabError as error:
        say(f"{error}")
        return LACKS if isinstance(error, SystemLacksError) else FAILED
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    if status:
        say(f"failed; the machine's console is in {CONSOLE}")
        return FAILED
    CONSOLE.unlink(missing_ok=True)
    say("passed")
    return OK


def script(arguments: Sequence[str]) -> str:
    install = "apt-get install -y -q --no-install-recommends ./hybrid-access.deb"
    environment = f"PYTHONPATH=/job:/job/libraries HYBRID_LAB_PATIENCE={PATIENCE}"
    options = "-v -p no:cacheprovider -o faulthandler_timeout=300 --durations=20"
    tests = f"{environment} python3 -m pytest {options} {shlex.join(arguments)}"
    return f"echo booted && {install} && echo installed && {tests}"


def files(package: Path) -> dict[str, Path]:
    return {"hybrid-access.deb": package, **{name: CHECKOUT / name for name in TREES}, **libraries()}


def libraries() -> dict[str, Path]:
    """What stands at the top of each."""
    found: dict[str, Path] = {}
    for distribution in map(importlib.metadata.distribution, LIBRARIES):
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
        found |= {f"libraries/{top}": Path(str(distribution.locate_file(top))) for top in tops}
    return found


if __name__ == "__main__":
    sys.exit(main())
