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
import time
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
from common.routing import Routing
from common.service import Service
from common.settings import FOR_LEGS, Settings, Sysctl
from common.system import SystemLacks, device_name, require_device, require_mptcp
from common.transparent import Address
from common.version import VERSION
from common.watch import Watch
from common.worker import Duty
from common.workers import Workers
from cpe import joins
from cpe.forwards import NOTE, forwarded_from
from cpe.intercept import Interception
from cpe.joins import Join, Joins, Order
from cpe.links import Links
from cpe.routes import routes
from cpe.upstream import Upstream

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
# Seconds between what the kernel tells and the look at what has come of it: a line that comes up is told of in pieces.
_SETTLES: Final = 0.02
_AGAIN: Final = 1.0  # seconds until what the kernel has refused is tried again


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
        access = Accesses(loop, config, routing)
        undo.callback(access.close)

        paths = Paths(loop, config)
        undo.callback(paths.close)
        workers = Workers(
            loop,
            _duties(config, access.upstream),
            config.workers,
            config.max_flows,
            NO_LIMIT,
            paths.grown,
            lambda: loop.stop("the workers do not stay alive"),
            Orphans(invocation.file("workers")),
            lambda text: [duty.role for duty in _duties(_read(text), access.upstream)],
        )
        undo.callback(workers.stop)
        workers.start()

        settings = Settings(invocation.file("settings"), SETTINGS)
        undo.callback(settings.restore)
        settings.apply()
        undo.callback(routing.clean)
        routing.clean_old(config.table_base, config.rule_priority)
        _install_routes(routing, config)
        _install_rules(undo, config, access.upstream, workers.count)
        access.follow(workers, paths)

        def adopt(new: CpeConfig, text: str) -> None:
            for device in new.lan:
                require_device(device, "option 'lan'")
            nft.fill({"lan": nft.names(new.lan)})
            paths.adopt(new)
            workers.adopt(text, _duties(new, access.upstream), new.max_flows, NO_LIMIT)

        service = Service(loop, invocation, config, workers, adopt)
        control = ControlSocket(
            loop,
            invocation.file("sock"),
            {
                "status": lambda _, reply: _status(service.config, access, workers, reply),
                "flows": lambda _, reply: _flows(service.config, paths, workers, reply),
                **service.commands,
            },
        )
        undo.callback(control.close)
        for family, name in routing.default_devices().items():
            if name not in {link.device for link in config.links}:
                text = "the default route of %s goes by '%s', which is no link: that is not bonded"
                log.warning(text, family, name, extra=about(device=name))
        links = " and ".join(link.name for link in config.links)
        service.run(lambda: f"bonding connections from {', '.join(service.config.lan)} over {links}")
    if loop.failure:
        raise Failed(loop.failure)


class Accesses:
    """The links as they come and go: what the kernel tells of their devices in; routes, workers and subflows follow."""

    def __init__(self, loop: Loop, config: CpeConfig, routing: Routing) -> None:
        self._loop = loop
        self._config = config
        self._routing = routing
        self.links = Links(config, loop.now())
        self.upstream = Upstream()
        self._watch = Watch()
        self._timer: Timer | None = None  # until it has settled
        self._back: Timer | None = None  # until the primary link has been up for long enough
        self._workers: Workers | None = None
        self._paths: Paths | None = None
        self._observe()

    def close(self) -> None:
        self._loop.remove(self._watch.fileno())
        self._watch.close()

    def follow(self, workers: Workers, paths: Paths) -> None:
        """From now on the kernel and these follow every change. Raises SystemLacks if the kernel does not, now."""
        self._workers, self._paths = workers, paths
        self._loop.add(self._watch.fileno(), IN, lambda _events: self._on_change())
        self._observe()
        self._arrange()

    def _on_change(self) -> None:
        if self._watch.changed() and self._timer is None:
            self._timer = self._loop.call_later(_SETTLES, self._update)

    def _update(self) -> None:
        self._timer = None
        try:
            self._observe()
            self._arrange()
        except SystemLacks as lack:
            # Perhaps the device went again between the look and the order: then that is told next.
            log.warning("what the kernel has does not follow the links, tried again: %s", lack)
            if self._timer is None:
                self._timer = self._loop.call_later(_AGAIN, self._update)

    def _observe(self) -> None:
        now = self._loop.now()
        for change in self.links.observe(self._routing.device, now):
            name = change.link.name
            if change.down is None:
                log.info("link %s is up", name, extra=about(link=name))
            else:
                log.warning("link %s is down: %s", name, change.down, extra=about(link=name, reason=change.down))
        primary = self._config.primary
        usable, back = self.links.usable(primary), self.links.comes_back(now)
        down = None
        if usable is None:
            down = "primary link is down"
        elif back is not None and self.links.default(now) is not None:
            down = "primary link has just come back"
        self.upstream.change(usable.addresses if usable else {}, down)
        if self._back is not None:
            self._back.cancel()
        self._back = None if back is None else self._loop.call_at(back, self._update)

    def _arrange(self) -> None:
        assert self._workers
        assert self._paths
        now = self._loop.now()
        self._workers.tell(self.upstream.told())
        try:
            _install_routes(self._routing, self._config)
            self._routing.arrange(routes(self._config, self.links.states(), self.links.default(now)))
            if self._config.inbound:
                nft.fill({"primary4": f"{{ {self.upstream.address} }}"})
        finally:
            self._paths.use(self.links)  # new subflows need the routes; what is down is left whatever the kernel says


class Paths:
    """Subflows over the links: the path manager's events and the workers' news in, orders out.

    Most events are of short connections, for which there is nothing to do. So after a look the next ones wait for
    company: a wake-up for each would cost more than what is in it.
    """

    def __init__(self, loop: Loop, config: CpeConfig) -> None:
        self._loop = loop
        self._config = config
        self._manager = PathManager()
        self._joins = Joins(_join_endpoints(config))
        self._timer: Timer | None = None
        self._watch()

    def close(self) -> None:
        self._loop.remove(self._manager.fileno())
        self._manager.close()

    def adopt(self, config: CpeConfig) -> None:
        """Subflows to come go to where this configuration says."""
        self._joins.configured = _join_endpoints(config)

    def use(self, links: Links) -> None:
        """The links that are up now, for all connections."""
        self._perform(self._joins.use(_links_up(self._config, links)))
        self._arm()

    def links_of(self, token: int) -> list[str]:
        """Names of the links that carry the connection now; token 0 is of one that is not bonded."""
        first = [] if self._joins.lost_first(token) else [self._config.primary.name]
        return [*first, *self._joins.links_of(token)]

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

    def _perform(self, orders: list[Order]) -> None:
        for order in orders:
            log.debug("%s", order, extra=about(token=order.token, link=self._joins.name(order.local.id)))
            act = self._manager.join if isinstance(order, Join) else self._manager.leave
            act(order.token, order.local, order.remote)


def _join_endpoints(config: CpeConfig) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(str(address), config.join_port) for address in config.join_addresses)


def _read(text: str) -> CpeConfig:
    """A text that has been read before."""
    config = parse(text, "the configuration").cpe
    assert config is not None
    return config


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
        server_mark=_leg(config),
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
        client_mark=_leg(config),
        replays=True,
        patience=LIFETIME_IN_A_CROWD[State.RELEASED],
        addressed=forwarded_from(lambda: upstream.address),
        learn=upstream.learn,
    )


def _leg(config: CpeConfig) -> int:
    """The mark of what goes over the primary link."""
    return marks.server_leg(config.links.index(config.primary))


def _duties(config: CpeConfig, upstream: Upstream) -> list[Duty]:
    outbound = Duty(_role(config, upstream), config.queue, config.listen_port, marks.release)
    if not config.inbound:
        return [outbound]
    queue, port = config.queue + INBOUND, config.listen_port + INBOUND
    inbound = Duty(_inbound_role(config, upstream), queue, port, marks.replay, share=0.25)
    return [replace(outbound, share=0.75), inbound]


def _links_up(config: CpeConfig, links: Links) -> list[joins.Link]:
    found = [(number, link, links.usable(link)) for number, link in enumerate(config.links, start=1)]
    return [
        joins.Link(link.name, number, usable.device, usable.addresses, link is config.primary)
        for number, link, usable in found
        if usable is not None
    ]


def _install_routes(routing: Routing, config: CpeConfig) -> None:
    """Those that the links do not change, unless they are there; the others come with them (Accesses)."""
    routing.deliver_marked(config.table_base, config.rule_priority)
    routing.replay_marked(config.table_base, config.rule_priority)


def _install_rules(undo: ExitStack, config: CpeConfig, upstream: Upstream, workers: int) -> None:
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
                "address": upstream.address,
                "note": NOTE,
            },
        )
        for place in (nft.FORWARDED, nft.GIVEN_UP):
            undo.callback(nft.add_queue_rule(config.queue + INBOUND, workers, place))


def _status(config: CpeConfig, access: Accesses, workers: Workers, reply: Reply) -> None:
    links = [
        {
            "name": link.name,
            "device": link.device,
            "role": link.role.value,
            "addresses": list(usable.addresses.values()) if (usable := access.links.usable(link)) else [],
            "up": usable is not None,
            "reason": access.links.down(link),
            "since": round(time.monotonic() - access.links.since(link), 1),
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
            "links": paths.links_of(token or 0),
        }

    workers.flows(add_links, reply)
