# SPDX-License-Identifier: GPL-2.0-or-later
"""hybrid-hag, the daemon on the aggregation gateway. This file is the whole story, from top to bottom.

SYNs with MP_CAPABLE that come over a subscriber access wait in a queue (nftables/hybrid-hag.nft). A worker connects
to the server with the address and port it saw, releases the SYN when the server has answered, and relays
(common/gate.py, common/connection.py). The kernel's own path manager announces the address where the CPE's further
subflows are welcome, and accepts them. Control, this process, puts all that into the kernel and takes it out again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

from common import daemon, leftovers, marks, mptcp, nft, privilege, table, transparent
from common.config import INBOUND, HagConfig, parse
from common.control import ControlSocket, Reply
from common.daemon import Failed, Invocation
from common.entrance import Duty
from common.flow import LIFETIME_IN_A_CROWD, State
from common.loop import Loop
from common.orphans import Orphans
from common.packet import Segment
from common.path_events import Endpoint
from common.path_manager import Announcer, SubflowLimit
from common.role import Role
from common.routing import Routing
from common.service import Service
from common.settings import FOR_LEGS, Settings, Sysctl
from common.system import Unavailable, require_device, require_mptcp
from common.table import TableGuard
from common.transparent import Address
from common.upkeep import Upkeep
from common.version import VERSION
from common.watch import Guard
from common.workers import Workers
from hag.accesses import Accesses
from hag.admit import Admission, InboundAdmission, closed
from hag.announcement import Announcement
from hag.subscribers import Subscribers

SETTINGS: Final = (
    Sysctl("net.ipv4.tcp_syncookies", "1", "2 is cookies for all: ours cannot open by one, see common/workers.py"),
    # net.mptcp.path_manager since Linux 6.15, which still takes this name.
    Sysctl("net.mptcp.pm_type", "0", "the kernel announces our address and takes the joins"),
    Sysctl("net.mptcp.allow_join_initial_addr_port", "0", "nobody is to join at the server's address"),
    Sysctl("net.ipv4.tcp_tw_reuse", "1", "a subscriber may use a port again as soon as TCP allows"),
    Sysctl("net.ipv4.tcp_tw_reuse_delay", "1", "which with timestamps is at once"),
    *FOR_LEGS,
    # A router's early look for a socket finds one in TIME_WAIT too, and ip_forward() drops what has met any.
    Sysctl("net.ipv4.tcp_early_demux", "0", "what is forwarded must not meet the TIME_WAIT of an earlier connection"),
)


INBOUND_SETTINGS: Final = (
    Sysctl("net.mptcp.blackhole_timeout", "0", "one subscriber who loses our SYNs must not end bonding for all"),
)

# What the table counts, and what it is called in 'status'
COUNTERS: Final = {
    "own": "passed: the gateway's own address",
    "forged": "passed: no route back to the source there",
    "own_source": "passed: from the Internet in the gateway's own name",
    "forged_inbound": "passed: from the Internet, no route back to the source there",
    "stopped": "refused: closed destination",
}


def main(arguments: Sequence[str] | None = None) -> int:
    return daemon.main(
        "hag",
        "Ends the Multipath TCP of subscribers' routers and goes on to servers with plain TCP, from their addresses.",
        lambda config: config.hag,
        run,
        clean,
        arguments,
    )


def clean(config: HagConfig | None, invocation: Invocation[HagConfig]) -> None:
    """Takes out what a daemon that was killed has left."""
    with ExitStack() as undo:
        announcer = Announcer()
        undo.callback(announcer.close)
        settings = (*SETTINGS, *INBOUND_SETTINGS, SubflowLimit(announcer))
        if leftovers.take_out(invocation.file, settings) and config is not None:
            routing = Routing()
            undo.callback(routing.close)
            announcer.withdraw(_join_endpoints(routing, config))


def run(config: HagConfig, invocation: Invocation[HagConfig]) -> None:
    """Runs until told to stop. Whatever it installs is undone, in reverse order, however it ends."""
    privilege.require()
    require_mptcp()
    for device in config.access:
        require_device(device, "option 'access'")
    with ExitStack() as undo:
        loop = Loop()
        undo.callback(loop.close)
        daemon.stop_on_signals(loop)
        undo.enter_context(daemon.only_instance(invocation))

        routing = Routing()
        undo.callback(routing.close)
        announced = _join_endpoints(routing, config)

        orphans = Orphans(invocation.file("workers"))
        workers = Workers(
            loop,
            _duties(config),
            config.workers,
            config.max_flows,
            config.max_flows_per_subscriber,
            lambda tokens: None,  # subflows are the CPE's to order
            lambda: loop.stop("the workers do not stay alive"),
            orphans,
            lambda text: [duty.role for duty in _duties(_read(text))],
        )
        undo.callback(workers.stop)
        workers.start()

        announcer = Announcer()
        undo.callback(announcer.close)
        inbound = INBOUND_SETTINGS if config.inbound else ()
        settings = Settings(invocation.file("settings"), (*SETTINGS, *inbound, SubflowLimit(announcer)))
        undo.callback(settings.restore)
        settings.apply()
        announcement = Announcement(loop, announcer, announced)
        undo.callback(announcement.withdraw)
        announcement.start()
        # Whoever takes away what they live by ends them; a start that fails before is none of their business.
        undo.callback(orphans.end)
        undo.callback(routing.clean)
        routing.clean_old(config.table_base, config.rule_priority)

        def put_routes() -> None:
            routing.deliver_marked(config.table_base, config.rule_priority)
            routing.replay_marked(config.table_base, config.rule_priority)

        undo.callback(Upkeep(loop, Guard(), "rules or routes", put_routes).close)
        put_routes()
        _install_rules(undo, config, workers.count)

        def adopt(new: HagConfig, text: str) -> None:
            for device in new.access:
                require_device(device, "option 'access'")
            nft.fill({"access": nft.names(new.access), **_closed_sets(new), **(_inbound_sets(new) if inbound else {})})
            workers.adopt(text, _duties(new), new.max_flows, new.max_flows_per_subscriber)

        service = Service(loop, invocation, config, workers, adopt)

        def put_rules() -> None:
            _install_rules(ExitStack(), service.config, workers.count)  # to be undone as they are now

        undo.callback(Upkeep(loop, TableGuard(), "nftables' rules", put_rules, table.gone).close)
        control = ControlSocket(
            loop,
            invocation.file("sock"),
            {
                "status": lambda _, reply: _status(service.config, announced, workers, reply),
                "flows": lambda _, reply: workers.flows(_complete, reply),
                **service.commands,
            },
        )
        undo.callback(control.close)
        addresses = " and ".join(f"{endpoint.address} port {endpoint.port}" for endpoint in announced)
        service.run(lambda: f"bonding connections from {', '.join(service.config.access)}, subflows at {addresses}")
    if loop.failure:
        raise Failed(loop.failure)


def _join_endpoints(routing: Routing, config: HagConfig) -> list[Endpoint]:
    """Where further subflows are welcome: the first address of each family that the join device has."""
    index = require_device(config.join_device, "option 'join_device'")
    state = routing.device(config.join_device)
    addresses = state.addresses.values() if state else ()
    endpoints = [Endpoint(found[0], config.join_port, device=index) for found in addresses if found]
    if not endpoints:
        raise Unavailable(f"device '{config.join_device}' (option 'join_device') has no address to announce")
    return endpoints


def _role(config: HagConfig) -> Role:
    subscribers = Subscribers(config.delegated_prefix)
    return Role(
        client_protocol=transparent.MPTCP,
        server_protocol=transparent.TCP,
        decide=Admission(config).decide,
        source=as_seen,
        host=lambda key: subscribers.of(key[0]),
        server_mark=marks.server_leg(),
        strips=True,
        join_after=1 << 62,
        flow_buffer=config.flow_buffer,
    )


def _inbound_role(config: HagConfig) -> Role:
    """For connections that are opened from the Internet: here MP_CAPABLE goes into the SYN.

    The leg with the mark of server legs is the one on the Internet's side in both roles: by that, connection tracking
    tells the two apart.
    """
    subscribers = Subscribers(config.delegated_prefix)
    return Role(
        client_protocol=transparent.TCP,
        server_protocol=transparent.MPTCP,
        decide=InboundAdmission(config).decide,
        source=as_seen,
        host=lambda key: subscribers.of(key[2]),
        server_mark=marks.INNER_LEG,
        strips=False,
        join_after=1 << 62,
        flow_buffer=config.flow_buffer,
        tries_plain=not mptcp.falls_back(),
        experience=Accesses(mptcp.syns_with_the_option(), subscribers),
        client_mark=marks.server_leg(),
        replays=True,
        patience=LIFETIME_IN_A_CROWD[State.RELEASED],
    )


def as_seen(syn: Segment) -> Address:
    """Whoever the connection is for sees who it would see without us."""
    return syn.source, syn.sport


def _duties(config: HagConfig) -> list[Duty]:
    outbound = Duty(_role(config), config.queue, config.listen_port, marks.release)
    if not config.inbound:
        return [outbound]
    queue, port = config.queue + INBOUND, config.listen_port + INBOUND
    return [replace(outbound, share=0.75), Duty(_inbound_role(config), queue, port, marks.replay, share=0.25)]


def _read(text: str) -> HagConfig:
    """A text that has been read before."""
    config = parse(text, "the configuration").hag
    assert config is not None
    return config


def _closed_sets(config: HagConfig) -> dict[str, str]:
    return nft.prefixes("closed", closed(config))


def _inbound_sets(config: HagConfig) -> dict[str, str]:
    return {**nft.prefixes("subscriber", config.subscribers), **nft.prefixes("protected", config.protect)}


def _install_rules(undo: ExitStack, config: HagConfig, workers: int) -> None:
    nft.remove_iptables_rules()
    undo.callback(nft.unload)
    nft.load(
        "hybrid-hag.nft",
        {
            "access": nft.names(config.access),
            **_closed_sets(config),
            "release": nft.release_map(
                (marks.release, config.listen_port), (marks.replay, config.listen_port + INBOUND), workers=workers
            ),
        },
    )
    undo.callback(nft.add_queue_rule(config.queue, workers))
    if config.inbound:
        nft.load(
            "inbound-hag.nft",
            _inbound_sets(config),
        )
        for place in (nft.FORWARDED, nft.GIVEN_UP):
            undo.callback(nft.add_queue_rule(config.queue + INBOUND, workers, place))


def _status(config: HagConfig, announced: list[Endpoint], workers: Workers, reply: Reply) -> None:
    head: dict[str, Any] = {
        "role": "hag",
        "version": VERSION,
        "pid": os.getpid(),
        "access": list(config.access),
        "join": [{"address": endpoint.address, "port": endpoint.port} for endpoint in announced],
        "subscribers": [str(prefix) for prefix in config.subscribers],
    }
    workers.status(head, reply, nft.counters(COUNTERS))


def _complete(flow: dict[str, Any]) -> dict[str, Any]:
    return {**flow, "bonded": flow.pop("token") is not None}
