# SPDX-License-Identifier: GPL-2.0-or-later
"""`hybrid-lab demo`: the main job on one screen. A file goes down and up over xDSL, over LTE, and over both."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from lab.access import WAYS, Way
from lab.bonded import Moved, Pair
from lab.daemons import OVERFLOW
from lab.errors import LabError
from lab.picture import picture

SECONDS = 7.0  # that each transfer is to take
GLANCE = 0.25  # seconds between two looks at the accesses
FAMILY = 4

PHASES = (("xDSL alone", "xdsl"), ("LTE alone", "lte"), ("both, bonded", None))


@dataclass(frozen=True, slots=True)
class Phase:
    """One row of the table, rates in bit/s, and what the pictures need."""

    title: str
    down: Moved
    up: Moved
    rates: dict[Way, dict[str, Any]]


def run(console: Console) -> bool:
    """Shows the demo; says whether every file arrived unharmed. Raises LabError."""
    console.print(
        "Client, home router (CPE), gateway (HAG) and server in network namespaces; xDSL 20/5 Mbit/s 15 ms, "
        "LTE 30/10 Mbit/s 30 ms;\nhybrid-cpe and hybrid-hag between them; curl on the client, nginx on the server."
    )
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[speeds]}"),
    )
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        phases = [show_phase(progress, title, only) for title, only in PHASES]
    console.print()
    console.print(summary(phases))
    bonded = phases[-1]
    for way, rates in bonded.rates.items():
        words = f"{way}, both accesses"
        console.print(picture(rates["mbit"], rates["interval"], width=min(console.width, 100), height=12, title=words))
    intact = all(phase.down.intact and phase.up.intact for phase in phases)
    console.print(f"SHA-256 of all six files: {'equal at both ends' if intact else 'DIFFERENT'}.")
    return intact


def show_phase(progress: Progress, title: str, only: str | None) -> Phase:
    """Both transfers of one phase, in a lab of its own."""
    tasks = {way: progress.add_task(f"{title}, {way}", total=None, start=False, speeds="") for way in WAYS}
    moved: dict[Way, Moved] = {}
    rates: dict[Way, dict[str, Any]] = {}
    with Pair(only=only, cpe_options=OVERFLOW) as pair:
        transfers: dict[Way, Callable[[int, int], Moved]] = {"down": pair.download, "up": pair.upload}
        for way, transfer in transfers.items():
            began = time.monotonic()
            size = int(pair.capacity(way, FAMILY) * SECONDS / 8)
            moved[way] = follow(progress, tasks[way], pair, way, size, transfer)
            rates[way] = pair.lab.rates(way, began)
            if not progress.console.is_terminal:
                progress.console.print(f"{title}, {way}: {moved[way].rate / 1e6:.1f} Mbit/s")
    return Phase(title, moved["down"], moved["up"], rates)


def follow(
    progress: Progress, task: Any, pair: Pair, way: Way, size: int, transfer: Callable[[int, int], Moved]
) -> Moved:
    """Runs a transfer in a thread and shows meanwhile what the accesses carry."""
    outcome: list[Moved | BaseException] = []

    def work() -> None:
        try:
            outcome.append(transfer(FAMILY, size))
        except BaseException as error:  # for the thread that waits
            outcome.append(error)

    thread = threading.Thread(target=work)
    progress.update(task, total=size)
    progress.start_task(task)
    thread.start()
    before = delivered(pair, way)
    last, at = before, time.monotonic()
    while thread.is_alive():
        thread.join(GLANCE)
        now, seen = delivered(pair, way), time.monotonic()
        speeds = "  ".join(f"{name} {(now[name] - last[name]) * 8 / (seen - at) / 1e6:4.1f}" for name in now)
        progress.update(task, completed=sum(now.values()) - sum(before.values()), speeds=f"{speeds} Mbit/s")
        last, at = now, seen
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result if isinstance(result, LabError) else LabError(str(result))
    progress.update(task, completed=size, speeds=f"{result.rate / 1e6:.1f} Mbit/s")
    return result


def delivered(pair: Pair, way: Way) -> dict[str, int]:
    """Bytes that each access has delivered so far."""
    return {access.name: access.stats()[way]["bytes"] for access in pair.lab.accesses}


def summary(phases: list[Phase]) -> Table:
    table = Table(title="Goodput of the file, Mbit/s", title_justify="left")
    table.add_column("")
    for heading in ("down", "up"):
        table.add_column(heading, justify="right")
    for phase in phases:
        table.add_row(phase.title, f"{phase.down.rate / 1e6:.1f}", f"{phase.up.rate / 1e6:.1f}")
    *single, bonded = phases
    table.add_section()
    table.add_row(
        "bonded / sum of the two",
        f"{bonded.down.rate / sum(phase.down.rate for phase in single):.0%}",
        f"{bonded.up.rate / sum(phase.up.rate for phase in single):.0%}",
    )
    return table
