# SPDX-License-Identifier: GPL-2.0-or-later
"""What is counted of a real device, beside the kernel's own table of it: over restarts, and when it is made anew."""

import socket
from pathlib import Path

import pytest

from common import config
from common.config import CpeConfig
from common.loop import Loop
from cpe.ledger import Ledger
from cpe.links import Links
from cpe.volumes import Restricted, Volumes
from lab.netns import Namespace
from tests.running import until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("namespace")]


def configured(state: Path, *options: str) -> CpeConfig:
    text = f"config cpe\n list lan 'lan'\n option state_dir '{state}'\n"
    text += "config link 'xdsl'\n option device 'ppp0'\n option role 'primary'\n"
    text += "config link 'lte'\n option device 'wwan0'\n option role 'secondary'\n"
    parsed = config.parse(text + "\n".join(options), "f").cpe
    assert parsed
    return parsed


class Box:
    """A device, and daemons one after the other."""

    def __init__(self, namespace: Namespace, state: Path, *options: str) -> None:
        self.namespace = namespace
        self.config = configured(state, *options)
        self.ledger = Ledger(state)
        self.changes: list[Restricted] = []
        self.make()

    def make(self) -> None:
        self.namespace.configure(
            [
                "link add wwan0 type veth peer name far",
                "address add 192.0.2.1/24 dev wwan0",
                "link set wwan0 up",
                "link set far up",
                "neighbour add 192.0.2.2 lladdr 02:00:00:00:00:01 dev wwan0",
            ]
        )
        until(self.takes_packets, "the kernel sends by a device that is up")

    def takes_packets(self) -> bool:
        before = self.counted
        self.send(1)
        return self.counted >= before + 1000

    def send(self, count: int) -> None:
        """So many packets of 1000 bytes."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                sender.sendto(bytes(972), ("192.0.2.2", 9))

    def daemon(self) -> Volumes:
        volumes = Volumes(Loop(), self.config, Links(self.config, 0.0), lambda changed, _: self.changes.append(changed))
        volumes.start()
        return volumes

    @property
    def counted(self) -> int:
        """By the kernel, in proc(5)'s words."""
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        (row,) = (line.partition(":")[2].split() for line in lines if line.strip().startswith("wwan0:"))
        return int(row[0]) + int(row[8])

    @property
    def kept(self) -> int:
        return self.ledger.read()["lte"].used


def test_one_percent_of_what_the_kernel_counts_over_restarts_and_another_device(
    namespace: Namespace, tmp_path: Path
) -> None:
    box = Box(namespace, tmp_path, "option quota '50G'")
    box.send(100)
    before = box.counted
    daemon = box.daemon()
    until(box.ledger.read, "it is written")
    assert box.kept == 0  # what was before is not ours to count; but that it was is on the disk
    box.send(100)
    daemon.close()
    assert box.kept == pytest.approx(box.counted - before, rel=0.01)
    box.send(100)  # with nobody there
    daemon = box.daemon()
    box.send(100)
    daemon.close()
    first = box.counted - before
    assert box.kept == pytest.approx(first, rel=0.01)
    namespace.configure(["link delete wwan0"])
    daemon = box.daemon()
    box.make()
    box.send(50)
    daemon.close()
    assert box.kept == pytest.approx(first + box.counted, rel=0.01)
    assert box.kept > 350_000
    assert not box.changes


def test_what_is_restricted_is_told(namespace: Namespace, tmp_path: Path) -> None:
    box = Box(namespace, tmp_path, "option quota '100k'", "option at_quota 'off'")
    daemon = box.daemon()
    box.send(120)
    daemon.close()
    assert box.changes == []
    daemon = box.daemon()
    ((name, (allowed, reason)),) = box.changes[0].items()
    assert (name, allowed.value) == ("lte", "none")
    assert reason.startswith("its 100.00 kB are used up until ")
    described = daemon.describe(box.config.links[1])
    assert described
    assert described["used"] == pytest.approx(121_680, abs=2000)
    assert daemon.describe(box.config.links[0]) is None
    daemon.close()


def test_a_disk_that_is_gone_does_not_end_the_account(namespace: Namespace, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.touch()
    box = Box(namespace, state, "option quota '100k'")
    daemon = box.daemon()
    box.send(50)
    state.unlink()
    daemon.close()
    assert box.kept > 50_000


def test_nothing_is_written_where_no_link_has_a_quota(namespace: Namespace, tmp_path: Path) -> None:
    box = Box(namespace, tmp_path / "state", "option max_rate '1mbit'")
    daemon = box.daemon()
    box.send(10)
    daemon.close()
    assert not (tmp_path / "state").exists()
