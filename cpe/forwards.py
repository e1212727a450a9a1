# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a SYN went before a port forward of the router gave it its destination.

By the time that it waits for us only connection tracking knows that, and tells nobody before the connection has been
confirmed. So nftables/inbound-cpe.nft notes the destination port while the packet still has it, and puts it into the
mark for as long as the packet waits for us. IPv6 has no port forwards: there that half of the mark is somebody else's.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Final

from common.packet import Segment
from common.transparent import Address

_PORT: Final = 0xFFFF

NOTE: Final = f"note_{sys.byteorder}"  # the chain that notes it on a machine such as this


def forwarded_from(address: Callable[[], str]) -> Callable[[Segment, int], Address]:
    """A function of a SYN as it waits and its mark; ``address`` gives the router's, where port forwards are."""

    def addressed(syn: Segment, mark: int) -> Address:
        if syn.family == socket.AF_INET6:
            return syn.destination, syn.dport
        port = int.from_bytes((mark & _PORT).to_bytes(2, sys.byteorder), "big")
        return (address(), port) if port else (syn.destination, syn.dport)

    return addressed
