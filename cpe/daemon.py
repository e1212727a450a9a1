# SPDX-License-Identifier: GPL-2.0-or-later
"""hybrid-cpe, the daemon on the home router. This file is the whole story, from top to bottom.

The LAN's SYNs wait in a queue (nftables/hybrid-cpe.nft). A worker opens a Multipath TCP connection to the server over
the primary link, releases the SYN when that one is answered, and relays (common/gate.py, common/connection.py).
Control, this process, puts all that into the kernel and takes it out again, and gives connections that have grown
their subflows over the secondary links (cpe/joins.py).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

from common import daemon, marks, mptcp, nft, privilege, transparent
from common.blackholes import Blackholes
from common.config import INBOUND, CpeConfig, parse
from common.control import ControlSocket, Reply
from common.daemon import Failed, Invocation
from common.flow import LIFETIME_IN_A_CROWD, State
from common.gate import Role
from common.log import about, log
from common.loop import IN, Loop, Timer
from common.orphans import Orphans
from common.packet import Segment
from common.path_events import Endpoint
from common.path_manager import PathManager
from common.routing import DeviceState, Routing
from common.service import Service
from common.settings import FOR_LEGS, Settings, Sysctl
from common.system import Unavailable, device_name, require_device, require_mptcp
from common.transparent import Address
from common.version import VERSION
from common.worker import Duty
from common.workers import Workers
from cpe.forwards import NOTE, forwarded_from
from cpe.intercept import Interception
from cpe.joins import Join, Joins, SecondaryLink

NO_LIMIT: Final = 1 << 62  # of connections for each host

SETTINGS: Final = (
    Sysctl("net.ipv4.tcp_syncookies", "1", "2 is cookies for all: ours cannot open by one, see common/workers.py"),
    Sysctl("net.ipv4.tcp_tw_reuse", "1", "a client may use a port again as soon as TCP allows"),
    Sysctl("net.ipv4.tcp_tw_reuse_delay", "1", "which with timestamps is at once"),
    Sysctl("net.mptcp.blackhole_timeout", "0", "one server that loses our SYNs must not end bonding for all"),
    Sysctl("net.mptcp.allow_join_initial_addr_port", "0", "flag C of our SYNs: by it the HAG knows them"),
    # net.mptcp.path_manager since Linux 6.15, which still takes this name.
    Sysctl("net.mptcp.pm_type", "1", "subflows are ours to order"),
    *FOR_LEGS,
    # A router's early look for a socket finds one in TIME_WAIT too, and ip_forward() drops what has met any.
    Sysctl("net.ipv4.tcp_early_demux", "0", "what is forwarded must not meet the TIME_WAIT of an earlier connection"),
)

_COMPANY: Final = 0.02  # seconds that path events wait for others


def main(arguments: Sequence[str] | None = None) -> int:
    return daemon.main(
        "cpe",
        "Bonds the TCP connections of the LAN over several access links, together with a Hybrid Aggregation Gateway.",
        lambda config: config.cpe,
        run,
        arguments,
    )


def run(config: CpeConfig, invocation: Invocation[CpeConfig]) -> None:
    """Runs until told to stop. Whatever it installs is undone, in reverse order, however it ends."""
    privilege.require()
    require_mptcp()
    for device in config.lan:
        require_device(device, "option 'lan'")
    with ExitStack() as undo:
        loop = Loop()
        undo.callback(loop.close)
        daemon.stop_on_signals(loop)
        undo.enter_context(daemon.only_instance(invocation))

        routing = Routing()
        undo.callback(routing.close)
        devices = {link.name: _device(routing, link.name, link.device) for link in config.links}

        paths = Paths(loop, config, devices)
        undo.callback(paths.close)
        workers = Workers(
            loop,
            _duties(config, devices),
            config.workers,
            config.max_flows,
            NO_LIMIT,
            paths.grown,
            lambda: loop.stop("the workers do not stay alive"),
            Orphans(invocation.file("workers")),
            lambda text: [duty.role for duty in _duties(_read(text), devices)],
        )
        undo.callback(workers.stop)
        workers.start()

        settings = Settings(invocation.file("settings"), SETTINGS)
        undo.callback(settings.restore)
        settings.apply()
        undo.callback(routing.clean)
        _install_routes(routing, config, devices)
        _install_rules(undo, config, devices, workers.count)

        def adopt(new: CpeConfig, text: str) -> None:
            for device in new.lan:
                require_device(device, "option 'lan'")
            nft.fill({"lan": nft.names(new.lan)})
            paths.adopt(new)
            workers.adopt(text, _duties(new, devices), new.max_flows, NO_LIMIT)

        service = Service(loop, invocation, config, workers, adopt)
        control = ControlSocket(
            loop,
            invocation.file("sock"),
            {
                "status": lambda _, reply: _status(service.config, devices, workers, reply),
                "flows": lambda _, reply: _flows(service.config, paths, workers, reply),
                **service.commands,
            },
        )
        undo.callback(control.close)
        for family, name in routing.default_devices().items():
            if name not in {link.device for link in config.links}:
                text = "the default route of %s goes by '%s', which is no link: that is not bonded"
                log.warning(text, family, name, extra=about(device=name))
        links = " and ".join(devices)
        service.run(lambda: f"bonding connections from {', '.join(service.config.lan)} over {links}")
    if loop.failure:
        raise Failed(loop.failure)


class Paths:
    """Subflows over the secondary links: the path manager's events and the workers' news in, orders out.

    Most events are of short connections, for which there is nothing to do. So after a look the next ones wait for
    company: a wake-up for each would cost more than what is in it.
    """

    def __init__(self, loop: Loop, config: CpeConfig, devices: dict[str, DeviceState]) -> None:
        self._loop = loop
        self._manager = PathManager()
        self._joins = Joins(_secondary_links(config, devices), _join_endpoints(config))
        self._timer: Timer | None = None
        self._watch()

    def close(self) -> None:
        self._loop.remove(self._manager.fileno())
        self._manager.close()

    def adopt(self, config: CpeConfig) -> None:
        """Subflows to come go to where this configuration says."""
        self._joins.configured = _join_endpoints(config)

    def links_of(self, token: int) -> tuple[str, ...]:
        return self._joins.links_of(token)

    def grown(self, tokens: list[int]) -> None:
        self._read()  # a connection's birth was told before its growth, on the other socket
        for token in tokens:
            self._perform(self._joins.grown(token))

    def _watch(self) -> None:
        self._loop.add(self._manager.fileno(), IN, self._on_events)

    def _on_events(self, _events: int) -> None:
        self._loop.remove(self._manager.fileno())
        self._loop.call_later(_COMPANY, self._watch)
        self._read()

    def _read(self) -> None:
        for event in self._manager.events():
            log.debug("%s", event)
            self._perform(self._joins.handle(event, self._loop.now()))
        self._arm()

    def _arm(self) -> None:
        when = self._joins.next_retry()
        if when is not None and self._timer is None:
            self._timer = self._loop.call_at(when, self._retry)

    def _retry(self) -> None:
        self._timer = None
        self._perform(self._joins.retry(self._loop.now()))
        self._arm()

    def _perform(self, orders: list[Join]) -> None:
        for join in orders:
            log.debug("%s", join, extra=about(token=join.token, link=self._joins.name(join.local.id)))
            self._manager.join(join.token, join.local, join.remote)


def _join_endpoints(config: CpeConfig) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(str(address), config.join_port) for address in config.join_addresses)


def _read(text: str) -> CpeConfig:
    """A text that has been read before."""
    config = parse(text, "the configuration").cpe
    assert config is not None
    return config


def _device(routing: Routing, link: str, device: str) -> DeviceState:
    require_device(device, f"link '{link}'")
    state = routing.device(device)
    if not any(state.addresses[family] and family in state.gateways for family in state.addresses):
        raise Unavailable(f"device '{device}' (link '{link}') has no address with a default route through it")
    return state


def _role(config: CpeConfig, devices: dict[str, DeviceState]) -> Role:
    addresses = {family: found[0] for family, found in devices[config.primary.name].addresses.items() if found}

    def source(syn: Segment) -> Address:
        """IPv6: the client itself. IPv4: the primary link's address, which is what the router's NAT would use."""
        if syn.family == socket.AF_INET6:
            return syn.source, syn.sport
        return addresses[socket.AF_INET], 0

    return Role(
        client_protocol=transparent.TCP,
        server_protocol=transparent.MPTCP,
        decide=Interception(config, frozenset(int(family) for family in addresses), device_name).decide,
        source=source,
        host=lambda key: key[0],
        server_mark=_leg(config),
        strips=False,
        join_after=config.join_after,
        flow_buffer=config.flow_buffer,
        tries_plain=not mptcp.falls_back(),
        experience=Blackholes(mptcp.syns_with_the_option()),
    )


def _inbound_role(config: CpeConfig, devices: dict[str, DeviceState]) -> Role:
    """For connections that are opened from the Internet: here Multipath TCP ends.

    The leg with the mark of server legs is the one over the primary link in both roles: by that it is routed, and
    connection tracking tells the two apart.
    """
    return Role(
        client_protocol=transparent.MPTCP,
        server_protocol=transparent.TCP,
        decide=Interception(config, frozenset((socket.AF_INET, socket.AF_INET6)), device_name).decide_inbound,
        source=lambda syn: (syn.source, syn.sport),
        host=lambda key: key[0],
        server_mark=marks.INNER_LEG,
        strips=True,
        join_after=config.join_after,
        flow_buffer=config.flow_buffer,
        plain="the gateway that asked for Multipath TCP goes on without",
        client_mark=_leg(config),
        replays=True,
        patience=LIFETIME_IN_A_CROWD[State.RELEASED],
        addressed=forwarded_from(_primary_address(config, devices)),
    )


def _leg(config: CpeConfig) -> int:
    """The mark of what goes over the primary link."""
    return marks.server_leg(config.links.index(config.primary))


def _primary_address(config: CpeConfig, devices: dict[str, DeviceState]) -> str:
    """The IPv4 address where port forwards are; an address of nobody if there is none."""
    found = devices[config.primary.name].addresses.get(socket.AF_INET)
    return found[0] if found else "0.0.0.0"


def _duties(config: CpeConfig, devices: dict[str, DeviceState]) -> list[Duty]:
    outbound = Duty(_role(config, devices), config.queue, config.listen_port, marks.release)
    if not config.inbound:
        return [outbound]
    queue, port = config.queue + INBOUND, config.listen_port + INBOUND
    return [replace(outbound, share=0.75), Duty(_inbound_role(config, devices), queue, port, marks.replay, share=0.25)]


def _secondary_links(config: CpeConfig, devices: dict[str, DeviceState]) -> list[SecondaryLink]:
    links = []
    for number, link in enumerate(config.links, start=1):
        if link in config.secondaries:
            state = devices[link.name]
            usable = {
                family: found[0] for family, found in state.addresses.items() if found and family in state.gateways
            }
            links.append(SecondaryLink(link.name, number, state.index, usable))
    return links


def _install_routes(routing: Routing, config: CpeConfig, devices: dict[str, DeviceState]) -> None:
    """One table for each link, looked up by the link's addresses and by the mark of the first subflows.

    A subflow inherits its connection's mark, so the rules by address come first.
    """
    routing.clean_old(config.table_base, config.rule_priority)
    routing.deliver_marked(config.table_base, config.rule_priority)
    routing.replay_marked(config.table_base, config.rule_priority)
    for place, link in enumerate(config.links):
        state, table = devices[link.name], config.table_base + 1 + place
        for family in routing.families:
            if family not in state.gateways:
                continue
            routing.default_through(state, family, table)
            for address in state.addresses[family]:
                routing.lookup_from(address, table, config.rule_priority + 2)
            routing.lookup_marked(family, marks.server_leg(place), table, config.rule_priority + 4)


def _install_rules(undo: ExitStack, config: CpeConfig, devices: dict[str, DeviceState], workers: int) -> None:
    nft.remove_iptables_rules()
    undo.callback(nft.unload)
    nft.load(
        "hybrid-cpe.nft",
        {
            "lan": nft.names(config.lan),
            "links": nft.names(link.device for link in config.links),
            "leg": f"{_leg(config):#x}",
            "release": nft.release_map(
                (marks.release, config.listen_port), (marks.replay, config.listen_port + INBOUND), workers=workers
            ),
        },
    )
    undo.callback(nft.add_queue_rule(config.queue, workers))
    if config.inbound:
        nft.load(
            "inbound-cpe.nft",
            {
                "primary": config.primary.device,
                "address": _primary_address(config, devices),
                "note": NOTE,
            },
        )
        for place in (nft.FORWARDED, nft.GIVEN_UP):
            undo.callback(nft.add_queue_rule(config.queue + INBOUND, workers, place))


def _status(config: CpeConfig, devices: dict[str, DeviceState], workers: Workers, reply: Reply) -> None:
    links = [
        {
            "name": link.name,
            "device": link.device,
            "role": link.role.value,
            "addresses": [address for found in devices[link.name].addresses.values() for address in found],
        }
        for link in config.links
    ]
    head: dict[str, Any] = {
        "role": "cpe",
        "version": VERSION,
        "pid": os.getpid(),
        "lan": list(config.lan),
        "steering": config.steering.value,
        "links": links,
    }
    workers.status(head, reply)


def _flows(config: CpeConfig, paths: Paths, workers: Workers, reply: Reply) -> None:
    def add_links(flow: dict[str, Any]) -> dict[str, Any]:
        token = flow.pop("token")
        return {
            **flow,
            "bonded": token is not None,
            "links": [config.primary.name, *paths.links_of(token or 0)],
        }

    workers.flows(add_links, reply)
