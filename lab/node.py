# SPDX-License-Identifier: GPL-2.0-or-later
"""A box of the lab: a namespace that knows its addresses."""

from pathlib import Path

from lab.netns import Namespace

# node -> device -> (IPv4, IPv6), the addresses with their prefix length
ADDRESSES: dict[str, dict[str, tuple[str, str]]] = {
    "client": {
        "lan": ("192.0.2.10/26", "2001:db8:1000:1::10/64"),
        "guest": ("192.0.2.74/26", "2001:db8:1000:2::10/64"),
    },
    "cpe": {
        "lan": ("192.0.2.1/26", "2001:db8:1000:1::1/64"),
        "guest": ("192.0.2.65/26", "2001:db8:1000:2::1/64"),
        "xdsl": ("198.51.100.2/26", "2001:db8:2000:1::2/64"),
        "lte": ("198.51.100.66/26", "2001:db8:2000:2::2/64"),
    },
    "hag": {
        "xdsl": ("198.51.100.1/26", "2001:db8:2000:1::1/64"),
        "lte": ("198.51.100.65/26", "2001:db8:2000:2::1/64"),
        "core": ("203.0.113.1/26", "2001:db8:3000::1/64"),
    },
    "server": {
        "core": ("203.0.113.10/26", "2001:db8:3000::10/64"),
    },
}


class Node(Namespace):
    """One of the four boxes. `label` is its name in the picture, files in `directory` vanish with the lab."""

    def __init__(self, lab: str, label: str, directory: Path) -> None:
        super().__init__(f"hybrid-{lab}-{label}")
        self.label = label
        self.directory = directory

    def address(self, device: str, family: int) -> str:
        """Its address on `device`, without prefix length; `family` is 4 or 6."""
        return ADDRESSES[self.label][device][0 if family == 4 else 1].partition("/")[0]

    def assign(self, device: str, mtu: int = 1500) -> None:
        """Gives `device`, which exists, its addresses and brings it up."""
        ipv4, ipv6 = ADDRESSES[self.label][device]
        self.configure(
            [
                f"link set {device} mtu {mtu} up",
                f"address add {ipv4} dev {device}",
                f"address add {ipv6} dev {device} nodad",
            ]
        )


def connect(left: Node, right: Node, device: str, mtu: int = 1500) -> None:
    """Joins two nodes with a veth pair, both of whose ends are called `device`."""
    left.configure([f"link add {device} type veth peer name {device} netns {right.name}"])
    for node in (left, right):
        node.assign(device, mtu)
