# SPDX-License-Identifier: GPL-2.0-or-later
"""hybrid-cpe, the daemon on the home router. This file is the whole story, from top to bottom.

The LAN's SYNs wait in a queue (nftables/hybrid-cpe.nft). A worker opens a Multipath TCP connection to the server over
the primary link, releases the SYN when that one is answered, and relays (common/gate.py, common/connection.py).
Control, this process, puts all that into the kernel and takes it out again, and gives connections that have grown
their subflows over the secondary links (cpe/joins.py), as the steering has them (cpe/steering.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from common import daemon, leftovers, marks, nft, privilege, table
from common.channel import Message
from common.config import INBOUND, CpeConfig, parse
from common.control import ControlSocket, Refused, Reply
from common.daemon import Failed, Invocation
from common.log import about, log
from common.loop import Loop
from common.orphans import Orphans
from common.policy import Policy, Steering
from common.routing import Routing
from common.service import Service
from common.settings import FOR_LEGS, Settings, Sysctl
from common.system import require_device, require_mptcp
from common.table import TableGuard
from common.upkeep import Upkeep
from common.version import VERSION
from common.workers import Workers
from cpe.accesses import Accesses, install_routes
from cpe.duties import duties, leg
from cpe.forwards import NOTE
from cpe.paths import Paths
from cpe.steering import Allowed
from cpe.traffic import Traffic
from cpe.volumes import Restricted, Volumes

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


def main(arguments: Sequence[str] | None = None) -> int:
    return daemon.main(
        "cpe",
        "Bonds the TCP connections of the LAN over several access links, together with a Hybrid Aggregation Gateway.",
        lambda config: config.cpe,
        run,
        lambda _, invocation: leftovers.take_out(invocation.file, SETTINGS),
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

        def restrict(restricted: Restricted, turns: bool) -> None:
            access.bar({name: why for name, (allowed, why) in restricted.items() if allowed is Allowed.NONE})
            traffic.restrict(restricted, turns)

        volumes = Volumes(loop, config, access.links, restrict)
        undo.callback(volumes.close)
        access.bounds = volumes.describe

        paths = Paths(loop, config)
        undo.callback(paths.close)
        orphans = Orphans(invocation.file("workers"))
        traffic = Traffic(loop, config, access.links, paths, access.lan)
        undo.callback(traffic.close)
        workers = Workers(
            loop,
            duties(config, access.upstream),
            config.workers,
            config.max_flows,
            NO_LIMIT,
            traffic.grown,
            lambda: loop.stop("the workers do not stay alive"),
            orphans,
            lambda text: [duty.role for duty in duties(_read(text), access.upstream)],
        )
        undo.callback(workers.stop)
        workers.start()

        settings = Settings(invocation.file("settings"), SETTINGS)
        undo.callback(settings.restore)
        settings.apply()
        # Whoever takes away what they live by ends them; a start that fails before is none of their business.
        undo.callback(orphans.end)
        undo.callback(routing.clean)
        routing.clean_old(config.table_base, config.rule_priority)
        install_routes(routing, config)
        _install_rules(undo, config, access, workers.count)
        access.follow(workers, paths, traffic)
        volumes.start()

        def adopt(new: CpeConfig, text: str) -> None:
            for device in new.lan:
                require_device(device, "option 'lan'")
            nft.fill(access.lan_sets(new))
            paths.adopt(new)
            access.adopt(new)
            traffic.adopt(new)
            workers.adopt(text, duties(new, access.upstream), new.max_flows, NO_LIMIT)

        service = Service(loop, invocation, config, workers, adopt, access.look_again)

        def put_rules() -> None:
            _install_rules(ExitStack(), service.config, access, workers.count)  # to be undone as they are now
            access.fill_again()

        undo.callback(Upkeep(loop, TableGuard(), "nftables' rules", put_rules, table.gone).close)
        control = ControlSocket(
            loop,
            invocation.file("sock"),
            {
                "status": lambda _, reply: _status(service.config, access, traffic, workers, reply),
                "links": lambda _, reply: access.report(reply),
                "flows": lambda _, reply: _flows(service.config, paths, workers, reply),
                "policy": lambda _, reply: reply(_policy(service.config, traffic)),
                "steering": lambda request, reply: reply(_steering(request, service.config, traffic)),
                **service.commands,
            },
        )
        undo.callback(control.close)
        for family, name in routing.default_devices().items():
            if name not in access.links.devices().values():
                text = "the default route of %s goes by '%s', which is no link: that is not bonded"
                log.warning(text, family, name, extra=about(device=name))
        links = " and ".join(link.name for link in config.links)
        service.run(
            lambda: f"bonding connections from {', '.join(access.lan(service.config)) or 'no LAN'} over {links}"
        )
    if loop.failure:
        raise Failed(loop.failure)


def _read(text: str) -> CpeConfig:
    """A text that has been read before."""
    config = parse(text, "the configuration").cpe
    assert config is not None
    return config


def _install_rules(undo: ExitStack, config: CpeConfig, access: Accesses, workers: int) -> None:
    nft.remove_iptables_rules()
    undo.callback(nft.unload)
    nft.load(
        "hybrid-cpe.nft",
        {
            **access.lan_sets(config),
            "links": nft.names(access.links.devices().values()),
            "leg": f"{leg(config):#x}",
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
                "primary": access.primary,
                "address": access.upstream.address,
                "note": NOTE,
            },
        )
        for place in (nft.FORWARDED, nft.GIVEN_UP):
            undo.callback(nft.add_queue_rule(config.queue + INBOUND, workers, place))


def _status(config: CpeConfig, access: Accesses, traffic: Traffic, workers: Workers, reply: Reply) -> None:
    head: dict[str, Any] = {
        "role": "cpe",
        "version": VERSION,
        "pid": os.getpid(),
        "lan": access.lan(config),
        "steering": traffic.steering.mode.value,
        "links": access.describe(),
    }
    workers.status(head, reply)


def _flows(config: CpeConfig, paths: Paths, workers: Workers, reply: Reply) -> None:
    def add_links(flow: dict[str, Any]) -> dict[str, Any]:
        token = flow.pop("token")
        return {
            **flow,
            "bonded": token is not None,
            "links": paths.links_of(token or 0),
            "backups": paths.backups_of(token or 0),
        }

    workers.flows(add_links, reply)


def _policy(config: CpeConfig, traffic: Traffic) -> Message:
    """The modes in use, what each link is in them and why, and which connections have which."""
    return {
        "steering": traffic.steering.mode.value,
        "configured": config.steering.value,
        "modes": traffic.steering.describe(),
        "links": traffic.describe(),
        "policies": [_match(policy) for policy in config.policies],
    }


def _match(policy: Policy) -> Message:
    return {
        "name": policy.name,
        "steering": policy.steering.value,
        "dport": [f"{ports[0]}-{ports[-1]}" if len(ports) > 1 else f"{ports[0]}" for ports in policy.dports],
        "dst": list(map(str, policy.dsts)),
        "src": list(map(str, policy.srcs)),
        "dscp": policy.dscp,
        "device": list(policy.devices),
    }


def _steering(request: Message, config: CpeConfig, traffic: Traffic) -> Message:
    """Sets the mode if the request has one. Raises Refused."""
    if "set" in request:
        wanted = next((mode for mode in Steering if mode.value == request["set"]), None)
        if wanted is None:
            raise Refused(f"steering is one of: {', '.join(mode.value for mode in Steering)}")
        traffic.set(wanted)
    return {"steering": traffic.steering.mode.value, "configured": config.steering.value}
