# SPDX-License-Identifier: GPL-2.0-or-later
"""What a link may be used for now, by its quota, its rate and its hours. Pure: counters and clocks in, answers out."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from common.hours import next_change
from common.limits import AtQuota
from common.link import LinkConfig
from cpe.quota import Account, Notice, Reading, Record, moved
from cpe.ratecap import RateCap
from cpe.steering import Allowed

_FREE = (Allowed.FULL, "")


class Bounds:
    """Of one link. ``answer`` is what it may be used for and why, as of the last look."""

    def __init__(self, link: LinkConfig, record: Record | None, local: datetime) -> None:
        """``record`` is what was used before, ``local`` the time by the clock on the wall."""
        self.link = link
        self.account = Account(link.quota, record, local.date()) if link.quota else None
        self.answer: tuple[Allowed, str] = _FREE
        self._state = (_FREE, link.max_rate)  # without the turns that a rate takes
        self.turned = False  # by such a turn the answer is another one now
        self._reading: Reading | None = None
        self._cap: RateCap | None = None

    @property
    def capped(self) -> bool:
        """Whether there is a rate to be kept."""
        return self._cap is not None

    def look(self, reading: Reading | None, local: datetime, now: float, alone: bool = False) -> list[Notice]:
        """``reading`` is that of the link's device, if it is there; returns what people should hear.

        While the link is ``alone``, no other being up, it may carry at any rate, and need not make up for it.
        """
        told = self.account.look(reading, local.date(), now) if self.account else []
        rate = self._rate()
        self._bound(rate, reading, now, alone)
        before = self.answer
        by_clock = self._by_quota() or self._by_hours(local) or _FREE
        changed = (by_clock, rate) != self._state
        if changed:
            told.append(self._changed(by_clock, rate))
            self._state = (by_clock, rate)
        self.answer = by_clock
        if self._cap and self._cap.exceeded and by_clock is _FREE:
            self.answer = Allowed.FAILOVER_ONLY, f"waits: it has carried more than {_mbit(self._cap.rate)}"
        self.turned = self.answer != before and not changed
        return told

    def describe(self) -> dict[str, Any]:
        """For people, and programs. ``max_rate`` is in bit/s, ``used`` and ``limit`` are bytes."""
        account = self.account
        allowed, reason = self.answer
        return {
            "allowed": allowed.value,
            "reason": reason or None,
            "max_rate": self._cap.rate if self._cap else None,
            "used": account.record.used if account else None,
            "limit": account.quota.volume if account else None,
            "resets": str(account.resets) if account else None,
        }

    def _rate(self) -> int | None:
        """In bit/s; None is as fast as it goes."""
        rates = [self.link.max_rate]
        if self.account and self.account.used_up:
            rates.append(self.account.quota.rate)
        return min((rate for rate in rates if rate is not None), default=None)

    def _bound(self, rate: int | None, reading: Reading | None, now: float, alone: bool) -> None:
        if rate is None:
            self._cap = None
        elif self._cap is None or self._cap.rate != rate:
            self._cap = RateCap(rate)
        if reading is not None:
            down, up = moved(self._reading, reading)
            self._reading = reading
            if self._cap:
                self._cap.look(*((0, 0) if alone else (down, up)), now)

    def _by_quota(self) -> tuple[Allowed, str] | None:
        if not self.account or not self.account.used_up or self.account.quota.at_quota is AtQuota.CAP:
            return None
        off = self.account.quota.at_quota is AtQuota.OFF
        return Allowed.NONE if off else Allowed.FAILOVER_ONLY, self.account.why

    def _by_hours(self, local: datetime) -> tuple[Allowed, str] | None:
        if not self.link.hours or any(local in hours for hours in self.link.hours):
            return None
        until = next_change(self.link.hours, local)
        return Allowed.FAILOVER_ONLY, f"it is not its time before {until:%A %H:%M}" if until else "it is not its time"

    def _changed(self, by_clock: tuple[Allowed, str], rate: int | None) -> Notice:
        allowed, reason = by_clock
        grave = bool(self.account and self.account.used_up)
        if allowed is Allowed.NONE:
            return Notice(f"not used any more: {reason}", grave)
        if allowed is Allowed.FAILOVER_ONLY:
            return Notice(f"only for failover: {reason}", grave)
        if rate is not None and self.account and self.account.used_up:
            return Notice(f"no more than {_mbit(rate)}: {self.account.why}", grave)
        return Notice("used again" + (f", for no more than {_mbit(rate)}" if rate else ""))


def _mbit(rate: int) -> str:
    return f"{rate / 1e6:g} Mbit/s"
