# SPDX-License-Identifier: GPL-2.0-or-later
"""LTE with a quota, a rate and hours: what it carries by its own emulator, and by the kernel's counters."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.bonded import Pair
from tests.running import until

pytestmark = [pytest.mark.root, pytest.mark.full]

MB = 1_000_000


@contextmanager
def bounded(state: Path, *options: str) -> Iterator[Pair]:
    """A pair whose LTE link has these options; it is used from the beginning of connections on."""
    with Pair(cpe_options={"steering": "always", "join_after": 0, "state_dir": str(state)}) as pair:
        text = pair.cpe.config_file.read_text()
        role = "\toption role 'secondary'\n"
        pair.cpe.configure(text.replace(role, role + "".join(f"\t{option}\n" for option in options)))
        pair.cpe.restart()
        yield pair


def counted(pair: Pair) -> int:
    """By the kernel, of the router's LTE device."""
    (shown,) = json.loads(pair.lab.cpe.run(["ip", "-json", "-statistics", "link", "show", "lte"]).stdout)
    return int(shown["stats64"]["rx"]["bytes"]) + int(shown["stats64"]["tx"]["bytes"])


def bounds(pair: Pair) -> dict[str, Any]:
    found: dict[str, Any] = pair.cpe.status()["links"][1]["bounds"]
    return found


def told(pair: Pair) -> list[str]:
    events: Any = pair.cpe.control("events")
    return [event["what"] for event in events if event["what"].startswith("link lte: ")]


def test_a_quota_to_its_end_and_over_a_crash(tmp_path: Path) -> None:
    with bounded(tmp_path, "option quota '6M'") as pair:
        before = counted(pair)
        assert bounds(pair)["allowed"] == "full"
        assert pair.download(4, 5 * MB).intact
        time.sleep(1.1)  # between looks
        assert bounds(pair)["used"] == pytest.approx(counted(pair) - before, rel=0.01)
        assert pair.download(4, 10 * MB).intact
        until(lambda: bounds(pair)["allowed"] == "failover only", "the quota is used up")
        warned, used_up = told(pair)
        assert re.match(r"link lte: \d+ % are used of its 6.00 MB, which are to last until 20", warned)
        assert used_up.startswith("link lte: only for failover: its 6.00 MB are used up until 20")

        spare = counted(pair)
        assert pair.download(4, 5 * MB).intact
        assert counted(pair) - spare < 0.02 * 5 * MB

        pair.cpe.kill_all()
        missed = counted(pair)
        pair.cpe.start()
        assert bounds(pair)["allowed"] == "failover only"
        assert bounds(pair)["used"] == pytest.approx(missed - before, rel=0.01)

        pair.lab.xdsl.cut()
        until(lambda: not pair.cpe.status()["links"][0]["up"], "the primary link is down")
        failed_over = counted(pair)
        pair.lab.client.run(["curl", "-sf", "-o", "/dev/null", pair.web.url("down", 4)])
        assert counted(pair) - failed_over > 5 * MB


def test_nothing_at_all_once_a_quota_is_used_up(tmp_path: Path) -> None:
    with bounded(tmp_path, "option quota '2M'", "option at_quota 'off'") as pair:
        assert pair.download(4, 8 * MB).intact
        until(lambda: not pair.cpe.status()["links"][1]["up"], "the link counts as down")
        assert pair.cpe.status()["links"][1]["reason"].startswith("its 2.00 MB are used up until ")
        spare = counted(pair)
        assert pair.download(4, 4 * MB).intact
        assert counted(pair) - spare < 0.005 * 4 * MB


@pytest.mark.parametrize(("way", "rate", "size"), [("down", 5, 45 * MB), ("up", 2, 12 * MB)])
def test_a_rate_is_kept_on_the_average(tmp_path: Path, way: Any, rate: int, size: int) -> None:
    """The transfer may end with a burst that has yet to be made up for: half a second down, a second up."""
    with bounded(tmp_path, f"option max_rate '{rate}mbit'") as pair:
        access = pair.lab.lte
        began, before = time.monotonic(), access.stats()[way]["bytes"]
        moved = pair.download(4, size) if way == "down" else pair.upload(4, size)
        seconds = time.monotonic() - began
        carried = (access.stats()[way]["bytes"] - before) * 8 / 1e6
        assert moved.intact
        burst = 10 if way == "up" else 15
        assert 0.9 * rate * seconds < carried < 1.03 * rate * seconds + rate + burst
        assert moved.rate > 1.1 * pair.lab.xdsl.capacity(way, 4) * 0.98
        assert told(pair) == []


def test_not_its_hours(tmp_path: Path) -> None:
    then = time.localtime(time.time() + 7200)  # which is not now for two hours, summer time or not
    hour = f"{then.tm_hour:02}"
    with bounded(tmp_path, f"list hours '{hour}:10-{hour}:20'") as pair:
        spare = counted(pair)
        assert pair.download(4, 4 * MB).intact
        assert counted(pair) - spare < 0.02 * 4 * MB
        assert bounds(pair)["reason"].startswith("it is not its time before ")
