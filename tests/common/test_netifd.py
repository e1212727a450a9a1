# SPDX-License-Identifier: GPL-2.0-or-later
"""What netifd says of its interfaces, and what a stub in the place of ubus makes of the question."""

import json
from pathlib import Path
from typing import Any

import pytest

from common import netifd
from common.system import SystemLacks

# Shortened; the keys that a state has are those of netifd_dump_status() in netifd's ubus.c.
LAN = {"interface": "lan", "up": True, "pending": False, "l3_device": "br-lan", "proto": "static", "device": "br-lan"}
WAN = {"interface": "wan", "up": True, "uptime": 94, "l3_device": "pppoe-wan", "proto": "pppoe", "device": "eth1.7"}
DOWN = {"interface": "lte", "up": False, "pending": True, "available": True, "proto": "qmi", "device": "/dev/cdc-wdm0"}


def test_interfaces_that_are_up_have_a_device() -> None:
    assert netifd.parse({"interface": [LAN, WAN, DOWN]}) == {"lan": "br-lan", "wan": "pppoe-wan"}
    assert netifd.parse({"interface": []}) == {}


def test_a_device_that_no_rule_could_name_is_none() -> None:
    odd = WAN | {"l3_device": 'x"; drop'}
    assert netifd.parse({"interface": [odd, LAN, {}, 7]}) == {"lan": "br-lan"}


@pytest.mark.parametrize("answer", [None, [], {}, {"interface": "wan"}])
def test_what_is_no_answer(answer: Any) -> None:
    with pytest.raises(ValueError, match="no list of interfaces"):
        netifd.parse(answer)


def stub(directory: Path, text: str) -> None:
    program = directory / "ubus"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def test_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    stub(tmp_path, f"[ \"$*\" = '-t 2 call network.interface dump' ] && echo '{json.dumps({'interface': [WAN]})}'")
    assert netifd.devices() == {"wan": "pppoe-wan"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo 'Command failed: Not found' >&2; exit 4", "netifd does not say .*: Command failed: Not found"),
        ("exit 7", "netifd does not say .*: exit status 7"),
        ("echo '{'", "in words that are not understood"),
        ("echo '[]'", "in words that are not understood"),
    ],
)
def test_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    stub(tmp_path, text)
    with pytest.raises(SystemLacks, match=reason):
        netifd.devices()


def test_elsewhere_there_is_nobody_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemLacks, match=r"there is no netifd to ask .*: the program 'ubus' is missing"):
        netifd.devices()
