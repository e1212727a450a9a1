# SPDX-License-Identifier: GPL-2.0-or-later
"""One access between CPE and HAG: how it is built, and how a test breaks and mends it while it runs."""

import contextlib
import enum
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lab.errors import LabError
from lab.node import Node, connect
from lab.process import Process, python_path
from lab.tun import open_tun

MIN_QUEUE_PACKETS = 30

Way = Literal["up", "down"]  # down is from the HAG to the CPE
WAYS: tuple[Way, ...] = ("down", "up")


class Kind(enum.StrEnum):
    """What an access is made of."""

    EMULATED = "emulated"  # a pair of TUN devices and a process that delays packets
    DIRECT = "direct"  # a veth pair: as fast as the machine, nothing to set


class Cut(enum.StrEnum):
    """How the CPE's device shows that its access is gone. The HAG, many hops away, sees nothing of it."""

    DOWN = "down"  # set down, as a PPPoE or modem device is: its routes vanish
    CARRIER = "carrier"  # up but without carrier: its routes stay


@dataclass(frozen=True, slots=True)
class Profile:
    """What an emulated access does to packets. Down is from the HAG to the CPE.

    Rates in bit/s of IP packets; `delay` and `jitter` in seconds, one way; `loss` from 0 to 1, each way;
    `queue` in seconds that a full queue takes to drain at the rate, at least 30 packets; `mtu` in bytes (it
    holds for a direct access too).
    """

    rate_down: float
    rate_up: float
    delay: float
    jitter: float = 0.0
    loss: float = 0.0
    queue: float = 0.150
    mtu: int = 1500

    def slower(self, down: float, up: float) -> "Profile":
        """The same access with rates so many times lower."""
        return replace(self, rate_down=self.rate_down / down, rate_up=self.rate_up / up)

    def shapes(self) -> dict[str, dict[str, float]]:
        """The fields of `lab.direction.Shape` for each direction."""
        rates = {"up": self.rate_up, "down": self.rate_down}
        return {
            way: {
                "rate": rate,
                "delay": self.delay,
                "jitter": self.jitter,
                "loss": self.loss,
                "queue": max(int(rate * self.queue / 8), MIN_QUEUE_PACKETS * self.mtu),
            }
            for way, rate in rates.items()
        }


XDSL = Profile(rate_down=20e6, rate_up=5e6, delay=0.015)
LTE = Profile(rate_down=30e6, rate_up=10e6, delay=0.030)


class Access:
    """One access. `close` stops its process; its devices vanish with the namespaces."""

    def __init__(
        self,
        name: str,
        kind: Kind,
        profile: Profile,
        cpe: Node,
        hag: Node,
        *,
        cpe_routes: Sequence[str],
        hag_routes: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        """The routes are lines of `ip` that go by way of this access, put in whenever it comes up."""
        self.name = name
        self.kind = kind
        self.profile = profile
        self._cpe = cpe
        self._hag = hag
        self._cpe_routes = cpe_routes
        self._hag_routes = hag_routes
        self._seed = seed
        self._link: EmulatorLink | None = None

    def build(self) -> None:
        """Makes the devices at both ends, with their addresses and routes, and starts the emulation."""
        if self.kind is Kind.DIRECT:
            connect(self._cpe, self._hag, self.name, self.profile.mtu)
        else:
            self._link = EmulatorLink(self.name, self.profile, self._cpe, self._hag, self._seed)
            for node in (self._cpe, self._hag):
                node.assign(self.name, self.profile.mtu)
        self._put_routes()

    def close(self) -> None:
        """Stops the emulation, and with it the devices go."""
        if self._link:
            self._link.close()

    def capacity(self, direction: Way, family: int) -> float:
        """bit/s of payload of one plain TCP connection with timestamps that fills the access."""
        headers = (20 if family == 4 else 40) + 20 + 12
        rate = self.profile.rate_down if direction == "down" else self.profile.rate_up
        return rate * (self.profile.mtu - headers) / self.profile.mtu

    def set(self, direction: Way | None = None, **changes: Any) -> None:
        """Changes fields of `lab.direction.Shape` while packets flow; both directions unless one is named.

        LabError, naming the field, for a value that can't be.
        """
        for way in (direction,) if direction else WAYS:
            self.emulator.ask("set", direction=way, changes=changes)

    def blackhole(self, on: bool, direction: Way | None = None) -> None:
        """Loses the access in silence: all packets are swallowed, no device shows anything."""
        self.set(direction, blackhole=on)

    def cut(self, how: Cut = Cut.DOWN) -> None:
        """Loses the access in a way that the CPE can see at once."""
        match how:
            case Cut.DOWN:
                self._cpe.configure([f"link set {self.name} down"])
            case Cut.CARRIER if self._link:
                self._link.ask("carrier", on=False)
            case Cut.CARRIER:
                self._hag.configure([f"link set {self.name} down"])

    def restore(self) -> None:
        """Mends a cut; routes that went with it come back, as they do when a modem dials in again.

        The kernel may take a second to notice that a carrier is back.
        """
        if self._link:
            self._link.ask("carrier", on=True)
        for node in (self._hag, self._cpe):
            node.configure([f"link set {self.name} up"])
        self._put_routes()

    def stats(self) -> dict[str, Any]:
        """So far: 'up' and 'down' as `lab.direction.Counts`, 'cpu' and 'elapsed' in seconds."""
        counts: dict[str, Any] = self.emulator.ask("stats")
        return counts

    def series(self) -> dict[str, Any]:
        """'up' and 'down': bytes delivered in each 'interval' (seconds) since 'start' (time.monotonic)."""
        series: dict[str, Any] = self.emulator.ask("series")
        return series

    @property
    def emulator(self) -> "EmulatorLink":
        """LabError if the access is direct: there is nothing to set and nothing that counts."""
        if self._link is None:
            raise LabError(f"access '{self.name}' is direct, so nothing sets or counts its packets")
        return self._link

    def _put_routes(self) -> None:
        self._cpe.configure(self._cpe_routes)
        self._hag.configure(self._hag_routes)


class EmulatorLink:
    """The emulator's process, seen from the lab: it lives until `close`, or until the lab's process ends."""

    def __init__(self, name: str, profile: Profile, cpe: Node, hag: Node, seed: int) -> None:
        """Makes the devices and starts the process, without waiting until it is there to answer."""
        with contextlib.ExitStack() as passed:
            ours, theirs = socket.socketpair()
            passed.callback(theirs.close)
            descriptors = {"control": theirs.fileno()}
            for end, node in (("cpe", cpe), ("hag", hag)):
                with node.entered():
                    descriptors[end] = open_tun(name)
                passed.callback(os.close, descriptors[end])
            given: dict[str, Any] = {"mtu": profile.mtu, "seed": seed, **descriptors, **profile.shapes()}
            self.process = Process(
                [sys.executable, "-m", "lab.emulator", json.dumps(given)],
                environment=python_path(),
                pass_fds=tuple(descriptors.values()),
                name=f"the emulator of access '{name}'",
            )
        self._control = ours
        self._answers = ours.makefile("rb")

    def ask(self, command: str, **arguments: Any) -> Any:
        """One command of `lab.emulator`; gives its result. LabError if it is refused or nobody is there."""
        try:
            self._control.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            answer = json.loads(self._answers.readline())
        except (OSError, ValueError):
            raise LabError(self.process.obituary()) from None
        if not answer["ok"]:
            raise LabError(f"{self.process.name} refused '{command}': {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        self._answers.close()
        self._control.close()
        self.process.close()
