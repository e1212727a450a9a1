# SPDX-License-Identifier: GPL-2.0-or-later
"""What bounds the links, applied: their counters and the clock are read in short intervals, the ledger is kept.

Nothing of this exists where no link has a quota, a rate or hours.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from common.config import CpeConfig
from common.link import LinkConfig
from common.log import about, log
from common.loop import Loop
from common.meter import Meter
from cpe.bounds import Bounds
from cpe.ledger import Ledger
from cpe.links import Links
from cpe.quota import Reading, Record
from cpe.steering import Allowed

_LOOKS: Final = 1.0  # seconds between looks
_LOOKS_OFTEN: Final = 0.1  # where a rate is to be kept
_WRITES: Final = 10.0  # seconds between writings, if much has been used
_WRITES_LITTLE: Final = 600.0  # if little has: flash memory wears out
_MUCH: Final = 1_000_000  # bytes

Restricted = Mapping[str, tuple[Allowed, str]]


class Volumes:
    """``change`` is called with what is restricted whenever that changes, not before start().

    It hears besides whether that is nothing but the turns by which rates are kept, and so no news.
    """

    def __init__(
        self,
        loop: Loop,
        config: CpeConfig,
        links: Links,
        change: Callable[[Restricted, bool], None],
    ) -> None:
        self._loop = loop
        self._links = links
        self._change = change
        self._boot = _boot()
        self._meter = Meter()
        self._ledger = Ledger(config.state_dir)
        bounded = [link for link in config.links if link.quota or link.max_rate or link.hours]
        records = self._ledger.read() if any(link.quota for link in bounded) else {}
        self._bounds = [Bounds(link, records.get(link.name), datetime.now()) for link in bounded]
        self._others = {name: it for name, it in records.items() if name not in {link.name for link in bounded}}
        self._wrote = float("-inf")
        self._told: Restricted = {}

    def start(self) -> None:
        if self._bounds:
            self._look()

    def close(self) -> None:
        """Looks for the last time, and writes."""
        if self._bounds:
            self._read()
            if records := self._to_write():
                self._ledger.write(records)
        self._meter.close()

    def describe(self, link: LinkConfig) -> dict[str, Any] | None:
        """For people, and programs; None for a link without bounds."""
        return next((it.describe() for it in self._bounds if it.link.name == link.name), None)

    def _look(self) -> None:
        self._read()
        restricted = {it.link.name: it.answer for it in self._bounds if it.answer[0] is not Allowed.FULL}
        if restricted != self._told:
            turns = {it.link.name for it in self._bounds if it.turned}
            changed = {name for name in {*self._told, *restricted} if self._told.get(name) != restricted.get(name)}
            self._told = restricted
            self._change(restricted, changed <= turns)
        written = self._ledger.written
        unwritten = sum(
            record.used - (written[name].used if name in written else 0) for name, record in self._records().items()
        )
        since = self._loop.now() - self._wrote
        if since >= (_WRITES if abs(unwritten) >= _MUCH else _WRITES_LITTLE):
            self._wrote = self._loop.now()
            if records := self._to_write():
                self._ledger.begin(records)
        often = any(it.capped for it in self._bounds)
        self._loop.call_later(_LOOKS_OFTEN if often else _LOOKS, self._look)

    def _read(self) -> None:
        local, now = datetime.now(), self._loop.now()
        for it in self._bounds:
            for notice in it.look(self._reading(it.link), local, now, self._links.alone(it.link)):
                say = log.warning if notice.grave else log.info
                say("link %s: %s", it.link.name, notice.text, extra=about(link=it.link.name, reason=notice.text))

    def _reading(self, link: LinkConfig) -> Reading | None:
        device = self._links.device(link)
        if device is None:
            return None
        try:
            index = socket.if_nametoindex(device)
            counters = self._meter.read(index)
        except OSError:  # it goes, or has gone
            return None
        if counters is None:
            return None
        return Reading(link.interface or device, index, self._boot, counters.bytes_down, counters.bytes_up)

    def _records(self) -> dict[str, Record]:
        return {it.link.name: it.account.record for it in self._bounds if it.account}

    def _to_write(self) -> dict[str, Record]:
        """What the file should hold, if that is another than it does."""
        records = self._records()
        whole = {**self._others, **records}
        return whole if records and whole != self._ledger.written else {}


def _boot() -> str:
    """What tells this run of the box from others; counters of devices begin with it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
