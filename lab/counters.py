# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel of a node has counted."""

from pathlib import Path

from lab.netns import Namespace


def mptcp_counter(node: Namespace, name: str) -> int:
    """A counter of Multipath TCP by the name that it has in /proc/net/netstat, such as MPJoinSynAckRx; 0 without it."""
    with node.entered():
        lines = Path("/proc/thread-self/net/netstat").read_text().splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("MPTcpExt:"))
    return dict(zip(names, map(int, values), strict=True)).get(name, 0)


def received_bytes(node: Namespace, device: str) -> int:
    """Bytes that a device has received, headers included."""
    with node.entered():
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    rows = {name.strip(): values.split() for name, _, values in (line.partition(":") for line in lines[2:])}
    return int(rows[device][0])
