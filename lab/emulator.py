# SPDX-License-Identifier: GPL-2.0-or-later
"""The process behind an emulated access: moves packets between two TUN devices as two `Direction`s say.

Waking up costs more than moving a packet, on virtual machines above all. So it waits exactly, in select(2),
for what is due later than in one TICK; when packets are due closer to each other it looks every TICK only,
and delivers early what is due within half of one.

Started by `lab.access` as `python -m lab.emulator JSON`, with both devices and a control socket open; it ends
when the other end of that socket is closed. Control is one JSON object a line each way:

    {"command": "set", "direction": "down", "changes": {"rate": 1e6}} -> {"ok": true, "result": null}
    {"command": "carrier", "on": false}                               -> ... of the CPE's device
    {"command": "stats"}                                              -> {"ok": true, "result": {...}}
    {"command": "series"}                                             -> {"ok": true, "result": {...}}
    anything wrong                                                    -> {"ok": false, "error": "..."}
"""

import gc
import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from common.packet import PacketError, strip_option
from lab.direction import Direction, Shape
from lab.too_big import too_big
from lab.tun import set_carrier

TICK = 0.001  # seconds
INTERVAL = 0.1  # seconds, of the series
BATCH = 64  # packets read from one device before the other has its turn
NICENESS = -10  # what the network carries must not slow the network down


class Hop:
    """One direction with the descriptors it goes between, and its series of bytes delivered per INTERVAL."""

    def __init__(self, source: int, target: int, direction: Direction, back: Direction, mtu: int) -> None:
        self.direction = direction
        self._back = back
        self.series: list[int] = []
        self._source = source
        self._target = target
        self._mtu = mtu

    def take(self, now: float) -> None:
        """Reads what the device has to send, up to a batch."""
        direction, source, mtu = self.direction, self._source, self._mtu
        strip, limit = direction.shape.strip, direction.shape.mtu or mtu
        try:
            for _ in range(BATCH):
                packet = os.read(source, mtu)
                if strip is not None:
                    packet = stripped(packet, strip)
                if len(packet) > limit and direction.shape.tells:
                    self._back.enqueue(too_big(packet, limit), now)
                direction.enqueue(packet, now)
        except BlockingIOError:
            return

    def deliver(self, now: float, elapsed: float) -> None:
        """Writes what is due; a device that is down takes nothing, which is how it should be."""
        packets = self.direction.due(now + TICK / 2)
        interval = int(elapsed / INTERVAL)
        while packets and len(self.series) <= interval:
            self.series.append(0)
        for packet in packets:
            try:
                os.write(self._target, packet)
            except OSError:
                continue
            self.series[interval] += len(packet)


class Emulator:
    """The loop. `start` is on the monotonic clock, which all processes of a machine share."""

    def __init__(self, up: Hop, down: Hop, cpe: int, hag: int, control: socket.socket) -> None:
        self.start = time.monotonic()
        self._hops = {"up": up, "down": down}
        self._descriptors = (cpe, hag, control.fileno())
        self._incomplete = b""
        self._cpe = cpe
        self._control = control
        self._commands: dict[str, Callable[..., Any]] = {
            "set": self._set,
            "carrier": self._set_carrier,
            "stats": self._stats,
            "series": self._series,
        }

    def run(self) -> None:
        """Until the control socket's other end is closed."""
        hops = tuple(self._hops.values())
        age = 0.0
        while self._serve_control():
            now = time.monotonic()
            for hop in hops:
                hop.take(now - age)
            for hop in hops:
                hop.deliver(now, now - self.start)
            age = self._rest()

    def _rest(self) -> float:
        """Waits for something to do; gives how long ago, on average, packets that are there now came."""
        times = [due for hop in self._hops.values() if (due := hop.direction.next_due()) is not None]
        until_due = min(times) - time.monotonic() if times else None
        if until_due is not None and until_due < TICK:
            time.sleep(TICK)
            return TICK / 2
        select.select(self._descriptors, (), (), until_due)
        return 0.0

    def _serve_control(self) -> bool:
        """Answers what has been asked; False if nobody is there to ask any more."""
        try:
            received = self._control.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        *lines, self._incomplete = (self._incomplete + received).split(b"\n")
        for line in lines:
            self._control.sendall(json.dumps(self.answer(json.loads(line))).encode() + b"\n")
        return bool(received)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carries out one command."""
        command = self._commands[request.pop("command")]
        try:
            return {"ok": True, "result": command(**request)}
        except (ValueError, TypeError) as error:
            return {"ok": False, "error": str(error)}

    def _set(self, direction: str, changes: dict[str, Any]) -> None:
        model = self._hops[direction].direction
        model.reshape(replace(model.shape, **changes), time.monotonic())

    def _set_carrier(self, on: bool) -> None:
        set_carrier(self._cpe, on)

    def _stats(self) -> dict[str, Any]:
        counts = {name: asdict(hop.direction.counts) for name, hop in self._hops.items()}
        return {"cpu": time.process_time(), "elapsed": time.monotonic() - self.start, **counts}

    def _series(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "interval": INTERVAL,
            **{name: hop.series for name, hop in self._hops.items()},
        }


def stripped(packet: bytes, kind: int) -> bytes:
    """The packet without that TCP option; what is no TCP packet passes as it is."""
    try:
        return strip_option(packet, kind)
    except PacketError:
        return packet


def main() -> None:
    given = json.loads(sys.argv[1])
    gc.disable()  # nothing here makes cycles, and a collection would be a pause
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    cpe, hag = (os.dup(given[end]) for end in ("cpe", "hag"))  # select takes low numbers only
    control = socket.socket(fileno=os.dup(given["control"]))
    there, back = Direction(Shape(**given["up"]), given["seed"]), Direction(Shape(**given["down"]), given["seed"] + 1)
    up, down = Hop(cpe, hag, there, back, given["mtu"]), Hop(hag, cpe, back, there, given["mtu"])
    Emulator(up, down, cpe, hag, control).run()


if __name__ == "__main__":
    main()
