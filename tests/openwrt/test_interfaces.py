# SPDX-License-Identifier: GPL-2.0-or-later
"""Links by the name of their network, with a stub in the place of ubus that says what netifd would."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.access import Kind
from lab.daemons import Daemon, cpe_daemon, hag_daemon
from lab.topology import Lab, default_routes
from tests.lab.flows import Flow, Flows
from tests.running import until

pytestmark = [pytest.mark.root, pytest.mark.full]


class Netifd:
    """What it knows is in a file that the stub prints."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "interfaces"
        (directory / "ubus").write_text(f"#!/bin/sh\ncat {self._file}\n")
        (directory / "ubus").chmod(0o755)

    def says(self, **devices: str | None) -> None:
        known = {name: {"l3_device": device} if device else {} for name, device in devices.items()}
        answer = {"interface": [{"interface": name, **device} for name, device in known.items()]}
        self._file.write_text(json.dumps(answer))


@pytest.fixture
def netifd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Netifd:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Netifd(tmp_path)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(Kind.DIRECT) as lab:
        yield lab


def link(cpe: Daemon, name: str) -> tuple[bool, str | None, str | None]:
    (found,) = (link for link in cpe.status()["links"] if link["name"] == name)
    return found["up"], found["device"], found["reason"]


def links_of(cpe: Daemon, flow: Flow) -> list[str]:
    known: Any = flow.known_to(cpe) or {}
    return sorted(known.get("links", []))


def rename(lab: Lab, old: str, new: str, metric: int) -> None:
    """As when a modem comes back under another name."""
    routes = [line.replace(f"dev {old} ", f"dev {new} ") for line in default_routes(lab.hag, old, f"metric {metric}")]
    lab.cpe.configure([f"link set {old} down", f"link set {old} name {new}", f"link set {new} up", *routes])


def rules(lab: Lab, name: str) -> str:
    return lab.cpe.run(["nft", "list", "set", "inet", "hybrid_access", name]).stdout


def test_networks_come_late_and_change_their_devices(lab: Lab, netifd: Netifd) -> None:
    netifd.says(lan="lan", wan="xdsl", modem=None)
    cpe, hag = cpe_daemon(lab, {"join_after": 0, "hold": 0, "inbound": "1"}), hag_daemon(lab, {"inbound": "1"})
    text = cpe.config_file.read_text().replace("device 'xdsl'", "interface 'wan'")
    cpe.configure(text.replace("device 'lte'", "interface 'modem'"))
    hag.start()
    cpe.start()
    assert link(cpe, "xdsl") == (True, "xdsl", None)
    assert link(cpe, "lte") == (False, None, "interface 'modem' has no device")
    with Flows(lab) as flows:
        flow = flows.open(4)
        assert flow.bonded_by(hag)
        assert links_of(cpe, flow) == ["xdsl"]

        netifd.says(lan="lan", wan="xdsl", modem="lte")
        cpe.process.signal(signal.SIGHUP)  # as the hook for hotplug does
        until(lambda: links_of(cpe, flow) == ["lte", "xdsl"], "the connection uses it")
        assert '"lte"' in rules(lab, "links")

        netifd.says(lan="lan", wan="xdsl", modem="wwan1")
        rename(lab, "lte", "wwan1", 200)  # and nobody tells
        until(lambda: link(cpe, "lte") == (True, "wwan1", None), "the link is up again")
        until(lambda: links_of(cpe, flow) == ["lte", "xdsl"], "the connection uses it")
        assert '"lte"' not in rules(lab, "links")

        netifd.says(lan="lan", wan="ppp7", modem="wwan1")
        rename(lab, "xdsl", "ppp7", 100)
        until(lambda: link(cpe, "xdsl") == (True, "ppp7", None), "the primary link is up again")
        flow.exchange(1 << 20)
        assert flows.open(6).bonded_by(hag)
        assert '"ppp7"' in rules(lab, "links")
        assert '"ppp7"' in rules(lab, "primary")
    assert [cpe.stop(), hag.stop()] == [0, 0]


def test_lans_come_and_go(lab: Lab, netifd: Netifd) -> None:
    netifd.says(wan="xdsl", home="lan", guest=None)
    cpe, hag = cpe_daemon(lab), hag_daemon(lab)
    text = cpe.config_file.read_text()
    cpe.configure(text.replace("list lan 'lan'", "list lan_interface 'home'\n\tlist lan_interface 'guest'"))
    hag.start()
    cpe.start()
    assert cpe.status()["lan"] == ["lan"]
    with Flows(lab) as flows:
        assert flows.open(4).bonded_by(hag)
        netifd.says(wan="xdsl", home=None, guest="guest")
        cpe.process.signal(signal.SIGHUP)
        until(lambda: cpe.status()["lan"] == ["guest"], "it knows")
        assert not flows.open(4).bonded_by(hag)
        cpe.configure(text)
        assert cpe.control("reload") == {"changed": ["list lan", "list lan_interface"], "errors": []}
        assert flows.open(6).bonded_by(hag)
        cpe.configure(text.replace("list lan 'lan'", "list lan_interface 'guest'"))
        assert cpe.control("reload")["errors"] == []
        assert cpe.status()["lan"] == ["guest"]
        assert '"lan"' not in rules(lab, "lan")
        assert not flows.open(6).bonded_by(hag)
    assert [cpe.stop(), hag.stop()] == [0, 0]


def test_without_netifd_there_is_no_link_and_the_log_says_why(lab: Lab, netifd: Netifd, tmp_path: Path) -> None:
    (tmp_path / "ubus").unlink()
    cpe = cpe_daemon(lab)
    cpe.configure(cpe.config_file.read_text().replace("device 'lte'", "interface 'modem'"))
    cpe.start()
    assert link(cpe, "lte") == (False, None, "interface 'modem' has no device")
    assert (
        "WARNING: interface 'modem': there is no netifd to ask which device it has: the program 'ubus' is missing"
        in cpe.log
    )
    assert link(cpe, "xdsl")[0]
    assert cpe.stop() == 0
