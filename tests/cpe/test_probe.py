# SPDX-License-Identifier: GPL-2.0-or-later
"""Echo requests: their bytes, and over a loopback device of a network of its own what the kernel answers."""

import socket
import struct
import subprocess
from typing import Any

import pytest

from common.inventory import elsewhere
from cpe import probe
from cpe.health import Aim
from cpe.probe import Echo, Probes, answered, request

V4, V6 = socket.AF_INET, socket.AF_INET6


def test_a_request() -> None:
    message = request(V4, 0x1234, 0x0007)
    assert message == bytes.fromhex("0800 e5c4 1234 0007")
    assert sum(struct.unpack("!4H", message)) == 0xFFFF  # RFC 1071: so a receiver checks it
    assert request(V6, 0x1234, 7) == bytes.fromhex("8000 0000 1234 0007")


def reply(kind: int = 0, code: int = 0, whose: int = 0x1234, sequence: int = 7) -> bytes:
    return struct.pack("!BBHHH", kind, code, 0, whose, sequence)


HEADER = bytes([0x45, *bytes(19)])
LONG_HEADER = bytes([0x46, *bytes(23)])


def test_what_is_an_answer_to_us() -> None:
    assert answered(V4, 0x1234, HEADER + reply()) == 7
    assert answered(V4, 0x1234, LONG_HEADER + reply(sequence=65535)) == 65535
    assert answered(V6, 0x1234, reply(kind=129)) == 7


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEADER,
        HEADER + reply()[:7],
        reply(),
        HEADER + reply(kind=8),
        HEADER + reply(kind=3),
        HEADER + reply(code=1),
        HEADER + reply(whose=0x1235),
    ],
)
def test_what_is_none(data: bytes) -> None:
    assert answered(V4, 0x1234, data) is None


def asked(target: str, source: str) -> list[tuple[int, float]]:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    echo = Echo(Aim(socket.if_nametoindex("lo"), source, target), "lo")
    echo.send(1)
    echo.send(2)
    found = list(echo.answers())
    echo.close()
    return found


@pytest.mark.root
@pytest.mark.parametrize(("target", "source"), [("127.0.0.2", "127.0.0.1"), ("::1", "::1")])
def test_answers_and_when_they_came(target: str, source: str) -> None:
    (first, age), (second, later) = elsewhere(lambda: asked(target, source))
    assert (first, second) == (1, 2)
    assert min(age, later) >= 0


def test_how_long_ago_the_kernel_had_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.time, "time", lambda: 1000.75)
    stamp = struct.pack("=qq", 1000, 500_000_000)
    assert probe._age([(socket.SOL_SOCKET, 64, stamp)]) == 0.25
    assert probe._age([(socket.SOL_SOCKET, 64, struct.pack("=qq", 1001, 0))]) == 0.0  # the clock has been set back
    assert probe._age([]) == 0.0


def unreachable() -> Any:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    lo = socket.if_nametoindex("lo")
    probes = Probes()
    aims = {"good": Aim(lo, "127.0.0.1", "127.0.0.2"), "bad": Aim(lo, "192.0.2.77", "127.0.0.2")}
    names = dict.fromkeys(aims, "lo")
    can = sorted(probes.aim(aims, names))
    probes.send("good", 9)
    probes.send("bad", 9)
    answers = [(name, sequence) for name, sequence, _ in probes.answers()]
    counted = sorted(probes.packets())
    none = sorted(probes.aim({}, names))
    probes.close()
    return [can, answers, counted, none]


@pytest.mark.root
def test_a_link_that_cannot_be_asked_costs_no_other() -> None:
    assert elsewhere(unreachable) == [["good"], [["good", 9]], ["good"], []]
