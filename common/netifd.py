# SPDX-License-Identifier: GPL-2.0-or-later
"""Which devices OpenWrt's networks have now: netifd knows, and ubus carries the question (network.interface dump)."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import Any, Final

from common import values
from common.system import SystemLacks, require_program

_PATIENCE: Final = 2  # seconds; it answers in milliseconds unless it hangs, and the daemon's watchdog waits for 5


def devices() -> dict[str, str]:
    """The device of each interface that is up, by the interface's name. Raises SystemLacks where nobody says it."""
    try:
        command = [require_program("ubus", "ubus"), "-t", str(_PATIENCE), "call", "network.interface", "dump"]
    except SystemLacks:
        raise SystemLacks("there is no netifd to ask which device it has: the program 'ubus' is missing") from None
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE + 1)
    except subprocess.TimeoutExpired:
        raise SystemLacks("netifd does not say which device it has: ubus hangs") from None
    if done.returncode:
        reason = done.stderr.strip() or f"exit status {done.returncode}"
        raise SystemLacks(f"netifd does not say which device it has: {reason}")
    try:
        return parse(json.loads(done.stdout))
    except ValueError:
        raise SystemLacks("netifd says which device it has in words that are not understood") from None


def parse(answer: Any) -> dict[str, str]:
    """Of netifd's answer. Raises ValueError if it is none.

    An interface has ``l3_device`` while it is up (netifd_dump_status() in netifd's ubus.c): where its addresses are,
    such as pppoe-wan; ``device`` is what it was configured with, such as eth1.
    """
    match answer:
        case {"interface": [*interfaces]}:
            return dict(filter(None, map(_device, interfaces)))
    raise ValueError("no list of interfaces")


def _device(interface: Any) -> tuple[str, str] | None:
    match interface:
        case {"interface": str(name), "l3_device": str(device)}:
            with contextlib.suppress(ValueError):
                return name, values.device(device)
    return None
