# SPDX-License-Identifier: GPL-2.0-or-later
"""What the workers of a CPE do: connections that the LAN opens and, where that is wanted, those from the Internet."""

from __future__ import annotations

import socket
from dataclasses import replace

from common import marks, mptcp, transparent
from common.blackholes import Blackholes
from common.config import INBOUND, CpeConfig
from common.entrance import Duty
from common.flow import LIFETIME_IN_A_CROWD, State
from common.packet import Segment
from common.role import Role
from common.system import device_name
from common.transparent import Address
from cpe.forwards import forwarded_from
from cpe.intercept import Interception
from cpe.upstream import Upstream


def duties(config: CpeConfig, upstream: Upstream) -> list[Duty]:
    outbound = Duty(_role(config, upstream), config.queue, config.listen_port, marks.release)
    if not config.inbound:
        return [outbound]
    queue, port = config.queue + INBOUND, config.listen_port + INBOUND
    inbound = Duty(_inbound_role(config, upstream), queue, port, marks.replay, share=0.25)
    return [replace(outbound, share=0.75), inbound]


def leg(config: CpeConfig) -> int:
    """The mark of what goes over the primary link."""
    return marks.server_leg(config.links.index(config.primary))


def _role(config: CpeConfig, upstream: Upstream) -> Role:
    def source(syn: Segment) -> Address:
        """IPv6: the client itself. IPv4: the primary link's address, which is what the router's NAT would use."""
        if syn.family == socket.AF_INET6:
            return syn.source, syn.sport
        return upstream.address, 0

    return Role(
        client_protocol=transparent.TCP,
        server_protocol=transparent.MPTCP,
        decide=Interception(config, upstream.lacks, device_name).decide,
        source=source,
        host=lambda key: key[0],
        server_mark=leg(config),
        strips=False,
        join_after=config.join_after,
        flow_buffer=config.flow_buffer,
        tries_plain=not mptcp.falls_back(),
        experience=Blackholes(mptcp.syns_with_the_option()),
        learn=upstream.learn,
    )


def _inbound_role(config: CpeConfig, upstream: Upstream) -> Role:
    """For connections that are opened from the Internet: here Multipath TCP ends.

    The leg with the mark of server legs is the one over the primary link in both roles: by that it is routed, and
    connection tracking tells the two apart.
    """
    return Role(
        client_protocol=transparent.MPTCP,
        server_protocol=transparent.TCP,
        decide=Interception(config, lambda _family: None, device_name).decide_inbound,
        source=lambda syn: (syn.source, syn.sport),
        host=lambda key: key[0],
        server_mark=marks.INNER_LEG,
        strips=True,
        join_after=config.join_after,
        flow_buffer=config.flow_buffer,
        plain="the gateway that asked for Multipath TCP goes on without",
        client_mark=leg(config),
        replays=True,
        patience=LIFETIME_IN_A_CROWD[State.RELEASED],
        addressed=forwarded_from(lambda: upstream.address),
        learn=upstream.learn,
    )
