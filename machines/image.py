# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's disk: a Debian 12 with its own kernel, all that the package and the lab need, and a door for us.

At every boot it unpacks the archive that is its second disk and runs `run` of it, with the second serial port as its
terminal.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from lab.errors import LabError
from machines.root import Root, bare, cached, out_of_reach, run

SUITE: Final = "bookworm"
PACKAGES: Final = (
    "linux-image-cloud-amd64",
    "systemd-sysv",
    "dbus",  # how systemctl talks to systemd
    "kmod",
    # what the package depends on
    "nftables",
    "python3",
    # what the lab works with
    "curl",
    "iproute2",
    "iptables",
    "nginx",
    "procps",
    "tcpdump",
)

_DOOR: Final = """\
[Unit]
Description=What this machine was started for
After=multi-user.target

[Service]
Type=simple
ExecStart=/bin/sh -c 'mkdir /job && tar -C /job -xf /dev/vdb && exec /job/run'
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1

[Install]
WantedBy=multi-user.target
"""

_SIZE: Final = "3G"  # most of it nothing, which takes no room
# What the kernel needs to get at the disk. All others come from there: an archive of most of them, as Debian makes it,
# takes an emulated processor long to unpack.
_DRIVERS: Final = ("ext4", "virtio_blk", "virtio_pci")
_RECIPE: Final = Path(__file__).read_text()


@dataclass(frozen=True, slots=True)
class Image:
    """What it boots from."""

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.img"


def image(say: Callable[[str], None]) -> Image:
    """Made once: it takes some minutes, most of them for downloads. Raises LabError if there are none."""
    return Image(cached("machine", _RECIPE, partial(_make, say)))


def _make(say: Callable[[str], None], directory: Path) -> None:
    if obstacle := out_of_reach(SUITE):
        raise LabError(obstacle)
    say(f"making the machine's disk, once: a bare Debian ({SUITE})")
    with bare(SUITE) as root:
        root.update()
        _choose_drivers(root)
        say(f"its packages: {', '.join(PACKAGES)}")
        root.install(*PACKAGES)
        _settle(root)
        say("its file system")
        directory.mkdir()
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy((root.path / name).resolve(strict=True), directory / name)
        run("mkfs.ext4", "-q", "-d", str(root.path), str(directory / "disk"), _SIZE)


def _choose_drivers(root: Root) -> None:
    for file, text in {
        "etc/initramfs-tools/conf.d/drivers": "MODULES=list\n",
        "usr/share/initramfs-tools/modules.d/drivers": "".join(f"{driver}\n" for driver in _DRIVERS),
    }.items():
        path = root.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _settle(root: Root) -> None:
    """What nobody needs here, and takes time to start, is switched off; services may be started from now on."""
    (root.path / "usr/sbin/policy-rc.d").unlink()
    (root.path / "etc/systemd/system/door.service").write_text(_DOOR)
    (root.path / "etc/hostname").write_text("machine\n")
    root.run("systemctl", "enable", "door.service")
    root.run("systemctl", "mask", "nginx.service", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer")
    root.run("systemctl", "mask", "getty@tty1.service", "serial-getty@ttyS0.service", "systemd-timesyncd.service")
    root.run("apt-get", "clean")
    shutil.rmtree(root.path / "var/lib/apt/lists")  # without them apt needs no time to look them through
