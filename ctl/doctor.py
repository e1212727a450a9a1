# SPDX-License-Identifier: GPL-2.0-or-later
"""What `hybridctl doctor --local` finds: the configuration with its devices, and the box (common/inventory.py)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import cpe.daemon
import hag.daemon
from common import inventory, netifd
from common.config import Config, ConfigErrors, CpeConfig, load
from common.inventory import Finding
from common.settings import Sysctl
from common.system import SystemLacks
from ctl import display


def examine(file: Path) -> list[Finding]:
    """``file`` is the configuration; without a right one all is looked at that either role needs."""
    try:
        config = load(file)
    except ConfigErrors as found:
        wrong = [Finding("configuration", False, str(error), needed=True) for error in found.errors]
        return [*wrong, *inventory.take(_settings(None))]
    what = display.configuration(config) or "no section for either role"
    right = Finding("configuration", bool(config.cpe or config.hag), f"{file}: {what}", needed=True)
    return [right, *_devices(config), *inventory.take(_settings(config))]


def _devices(config: Config) -> Iterator[Finding]:
    uses: dict[str, str] = {}
    if config.cpe:
        uses |= dict.fromkeys(config.cpe.lan, "lan")
        uses |= {link.device: f"link '{link.name}'" for link in config.cpe.links if link.device}
        for use, found in _interfaces(config.cpe):
            yield found
            if found.found:
                uses[found.text] = use
    if config.hag:
        uses |= dict.fromkeys(config.hag.access, "access") | {config.hag.join_device: "join_device"}
    there = {name for _, name in socket.if_nameindex()}
    for device, use in uses.items():
        text = use if device in there else f"there is none of that name ({use})"
        yield Finding(f"device {device}", device in there, text, needed=True)


def _interfaces(config: CpeConfig) -> Iterator[tuple[str, Finding]]:
    """With their use. The text of one that is found is its device."""
    uses = {name: "lan" for name in config.lan_interface}
    uses |= {link.interface: f"link '{link.name}'" for link in config.links if link.interface}
    try:
        named, lacks = netifd.devices() if uses else {}, "it is down, or there is none of that name"
    except SystemLacks as lack:
        named, lacks = {}, str(lack)
    for name, use in uses.items():
        device = named.get(name)
        yield use, Finding(f"interface {name}", device is not None, device or f"{lacks} ({use})", needed=True)


def _settings(config: Config | None) -> list[Sysctl]:
    """That the daemons of the configured roles change; of both roles if none is."""
    settings: list[Sysctl] = []
    if config is None or config.cpe:
        settings += cpe.daemon.SETTINGS
    if config is None or config.hag:
        settings += hag.daemon.SETTINGS
    return list(dict.fromkeys(settings))
