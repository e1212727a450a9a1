# SPDX-License-Identifier: GPL-2.0-or-later
"""The box's nftables table, and the one rule that nftables itself may not know: the queue.

The text of the table is in nftables/*.nft; here it is given its values, checked, loaded whole and taken out again.
Where the kernel has no nft ``queue`` expression (CONFIG_NFT_QUEUE), iptables' NFQUEUE takes what the table marked.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final

from common import marks, table
from common.counters import packets
from common.log import log
from common.prefixes import Network
from common.system import SystemLacks, require_program

_TABLE: Final = f"inet {table.NAME}"
_COMMENT: Final = "hybrid-access"
_SEATS: Final = "hybrid-access-queues"  # iptables' chain with one rule for each worker
# For a set in which there is nobody: nft takes no empty one. No device can have that name (dev_valid_name()).
_NOBODY: Final = {4: "0.0.0.0", 6: "::"}
_NO_DEVICE: Final = "."

# What a rule needs of the kernel, and what OpenWrt calls the package.
QUEUE: Final = "queue"
FEATURES: Final = {
    QUEUE: "CONFIG_NFT_QUEUE, kmod-nft-queue",
    "tproxy": "CONFIG_NFT_TPROXY, kmod-nft-tproxy",
    "socket transparent": "CONFIG_NFT_SOCKET, kmod-nft-socket",
    "fib": "CONFIG_NFT_FIB_INET, kmod-nft-fib",
    "ct zone": "CONFIG_NF_CONNTRACK_ZONES, kmod-nf-conntrack",
    "notrack": "CONFIG_NFT_CT, kmod-nft-core",
    "reject": "CONFIG_NFT_REJECT_INET, kmod-nft-core",
    "tcp option": "CONFIG_NF_TABLES, kmod-nft-core",
}

# The simplest rule with each of them.
_TRIALS: Final = {
    QUEUE: "queue flags bypass to 1",
    "tproxy": "meta l4proto tcp tproxy ip to 127.0.0.1:1 accept",
    "socket transparent": "socket transparent 1 accept",
    "fib": "fib daddr type local accept",
    "ct zone": "ct zone set 1",
    "notrack": "notrack",
    "reject": "meta l4proto tcp reject with tcp reset",
    "tcp option": "tcp option mptcp subtype 0 accept",
}


def rules_directory() -> Path:
    """Where the .nft files are: beside the packages in a checkout, under share/ when installed."""
    here = Path(__file__).resolve().parent.parent / "nftables"
    return (
        here if (here / "deliver.nft").is_file() else Path(sysconfig.get_path("data")) / "share/hybrid-access/nftables"
    )


def names(elements: Iterable[str]) -> str:
    """A set of device names, for a variable."""
    return "{ " + ", ".join(f'"{element}"' for element in list(elements) or [_NO_DEVICE]) + " }"


def release_map(*runs: tuple[Callable[[int], int], int], workers: int) -> str:
    """The listener port of each worker's released SYNs, for $release: of each mark by worker, and the first port."""
    return "{ " + ", ".join(f"{mark(n):#x} : {port + n}" for mark, port in runs for n in range(workers)) + " }"


def prefixes(name: str, networks: Iterable[Network]) -> dict[str, str]:
    """Two sets, for $name4 and $name6."""
    elements: dict[int, list[str]] = {4: [], 6: []}
    for network in networks:
        elements[network.version].append(str(network))
    return {
        f"{name}{version}": "{ " + ", ".join(found or [_NOBODY[version]]) + " }" for version, found in elements.items()
    }


def load(file: str, variables: Mapping[str, str]) -> None:
    """Loads a table in one transaction, in place of what is left of an earlier one. Raises SystemLacks."""
    directory = rules_directory()
    command = [require_program("nft", "nftables"), "-I", str(directory)]
    for name, value in variables.items():
        command += ["-D", f"{name}={value}"]
    done = _run([*command, "-f", str(directory / file)])
    if done.returncode:
        raise SystemLacks(_why_refused(file, done.stderr))


def fill(sets: Mapping[str, str], maps: Mapping[str, str] = MappingProxyType({})) -> None:
    """Gives sets and maps of the table other elements, "" for none, all at once or not at all. Raises SystemLacks."""
    lines = []
    for kind, name, elements in (
        *(("set", *one) for one in sets.items()),
        *(("map", *one) for one in maps.items()),
    ):
        lines.append(f"flush {kind} {_TABLE} {name}")
        if elements:
            lines.append(f"add element {_TABLE} {name} {elements}")
    done = _run([require_program("nft", "nftables"), "-f", "-"], "\n".join(lines))
    if done.returncode:
        raise SystemLacks(f"nftables does not take other elements: {_first_error(done.stderr)}")


def lacks() -> set[str]:
    """Those of FEATURES with which this network namespace takes no rule; they are tried in a table that stays there."""
    nft = require_program("nft", "nftables")
    head = "table inet hybrid_access_trial { chain trial { type filter hook prerouting priority raw; "
    return {feature for feature, rule in _TRIALS.items() if _run([nft, "-f", "-"], f"{head}{rule}; }}; }}").returncode}


def try_iptables() -> None:
    """Adds the rules that take the place of nft's queue, and takes them out. Raises SystemLacks."""
    _add_iptables_rules(1, 1, ARRIVING)
    remove_iptables_rules()


def unload() -> None:
    """Takes the table out; fine if it is not there."""
    _run([require_program("nft", "nftables"), "delete", "table", *_TABLE.split()])


def counters(names: Mapping[str, str]) -> dict[str, int]:
    """Packets that the table's named counters have counted, those that have any, by what ``names`` calls them."""
    found = packets(table.NAME)
    return {name: found[counter] for counter, name in names.items() if found.get(counter)}


@dataclass(frozen=True, slots=True)
class Place:
    """Where SYNs wait: with which mark, in which chain of ours, or else in which one of iptables.

    ``chosen_by`` is what decides whose a SYN is: copies of it, and the RST that takes it back, have it in common, and
    so come to the worker that has the SYN.
    """

    mark: int
    chosen_by: str
    chain: str
    table: str
    hook: str


# Both ends, so that one client's connections to one server are everybody's. Of what comes from the Internet its source
# alone: a port forward of the router changes the other end between the places where a SYN and its RST wait.
_SOURCE: Final = "{ip} saddr . tcp sport"
_BOTH: Final = f"{_SOURCE} . {{ip}} daddr . tcp dport"
ARRIVING: Final = Place(marks.GATE, _BOTH, "hold", "mangle", "PREROUTING")
FORWARDED: Final = Place(marks.GATE_INBOUND, _SOURCE, "hold_inbound", "security", "FORWARD")
GIVEN_UP: Final = replace(FORWARDED, chain="hold", table="mangle", hook="PREROUTING")  # RSTs, which a firewall may drop

# Nobody can aim at one worker: where the kernel does not make up a seed for a rule, we do for those that must agree.
_SEED: Final = f" seed {secrets.randbits(32):#x}"


def add_queue_rule(first: int, count: int, place: Place = ARRIVING) -> Callable[[], None]:
    """Sends marked SYNs to the queues ``first`` ... ``first + count - 1``, one for each worker; returns the undo.

    Raises SystemLacks.
    """
    queues = str(first) if count == 1 else f"{first}-{first + count - 1}"
    if _change(own_queue(first, count, place)):
        log.info("SYNs wait in nft's own queue %s", queues)
        return lambda: None  # goes with the table
    log.info("the kernel has no nft queue (CONFIG_NFT_QUEUE): SYNs wait in iptables' NFQUEUE %s", queues)
    if count > 1 and place is ARRIVING and not _change(queue_marks(count)):
        raise SystemLacks("the kernel's nftables has no 'jhash' (CONFIG_NFT_HASH, kmod-nft-core)")
    _add_iptables_rules(first, count, place)
    return remove_iptables_rules


def own_queue(first: int, count: int, place: Place) -> str:
    """nft's own queue, as commands."""
    rule = f"add rule {_TABLE} {place.chain} meta mark & {marks.MASK:#x} == {place.mark:#x} queue flags bypass to"
    if count == 1:
        return f"{rule} {first}"
    return "; ".join(f"{rule} {choice} offset {first}" for choice in _choices(count, place))


def queue_marks(count: int) -> str:
    """Where iptables has the queues, a mark for each, as commands: its own choice (--queue-balance) knows no ports.

    Connections from the Internet are left to that choice: there are no more marks.
    """
    commands = []
    for worker in range(count):
        chain = f"{_TABLE} to_queue_{worker}"
        marked = f"meta mark & {~marks.MASK & 0xFFFFFFFF:#x} | {marks.queued(worker):#x}"
        commands += [f"add chain {chain}", f"add rule {chain} meta mark set {marked}"]
    seats = ", ".join(f"{worker} : goto to_queue_{worker}" for worker in range(count))
    commands += [f"add rule {_TABLE} to_queue {choice} vmap {{ {seats} }}" for choice in _choices(count, ARRIVING)]
    return "; ".join(commands)


def _choices(count: int, place: Place) -> list[str]:
    """The number of a worker, for each family."""
    seed = "" if place is ARRIVING else _SEED
    return [f"jhash {place.chosen_by.format(ip=ip)} mod {count}{seed}" for ip in ("ip", "ip6")]


def remove_iptables_rules() -> None:
    """Takes out every rule of ours, also those of a daemon that crashed."""
    for iptables in ("iptables", "ip6tables"):
        try:
            program = require_program(iptables, "iptables")
        except SystemLacks:
            continue
        for place in (ARRIVING, FORWARDED):
            lines = _run([program, "-w", "-t", place.table, "-S"]).stdout.splitlines()
            listed = [line.split() for line in lines if line.startswith("-")]
            for command, chain, *words in listed:
                if command == "-A" and chain == place.hook and _COMMENT in words:
                    _run([program, "-w", "-t", place.table, "-D", chain, *words])
            if ["-N", _SEATS] in listed:
                _run([program, "-w", "-t", place.table, "-F", _SEATS])
                _run([program, "-w", "-t", place.table, "-X", _SEATS])
            _remove_if_empty("ip6" if iptables == "ip6tables" else "ip", place.table)


def _remove_if_empty(family: str, table: str) -> None:
    """iptables leaves the table that it made for our rule; one that does nothing is missed by nobody."""
    nft = require_program("nft", "nftables")
    listed = _run([nft, "--json", "list", "table", family, table])
    if listed.returncode:
        return
    objects = json.loads(listed.stdout)["nftables"]
    idle = all(object_["chain"].get("policy", "accept") == "accept" for object_ in objects if "chain" in object_)
    if idle and all(object_.keys() <= {"metainfo", "table", "chain"} for object_ in objects):
        _run([nft, "delete", "table", family, table])


def _add_iptables_rules(first: int, count: int, place: Place) -> None:
    text = iptables_rules(first, count, place)
    for program in [require_program(f"{name}-restore", "iptables") for name in ("iptables", "ip6tables")]:
        done = _run([program, "-w", "--noflush"], text)
        if done.returncode:
            remove_iptables_rules()
            raise SystemLacks(f"the kernel has no netfilter queue for us: {_first_error(done.stderr)}")


def iptables_rules(first: int, count: int, place: Place) -> str:
    """What iptables-restore reads. However many workers there are, packets without a mark of ours meet one rule."""

    def rule(chain: str, mark: str, target: str) -> str:
        return f"-A {chain} -m mark {mark}/{marks.MASK:#x} -m comment --comment {_COMMENT} -j {target}"

    def queue(chain: str, mark: int, which: str) -> str:
        return rule(chain, f"--mark {mark:#x}", f"NFQUEUE {which} --queue-bypass")

    if count == 1:
        rules = [queue(place.hook, place.mark, f"--queue-num {first}")]
    elif place is ARRIVING:
        rules = [f":{_SEATS} - [0:0]"]
        rules += [queue(_SEATS, marks.queued(worker), f"--queue-num {first + worker}") for worker in range(count)]
        rules += [rule(place.hook, "! --mark 0x0", _SEATS)]
    else:
        rules = [queue(place.hook, place.mark, f"--queue-balance {first}:{first + count - 1}")]
    return "\n".join([f"*{place.table}", *rules, "COMMIT", ""])


def _why_refused(file: str, complaint: str) -> str:
    """nft points at what the kernel did not take: a line of the file with carets under it."""
    lines = complaint.splitlines()
    for rule, pointer in pairwise(lines):
        start, end = pointer.find("^"), pointer.rfind("^") + 1
        for feature, where in FEATURES.items():
            if start >= 0 and feature in rule[start:end]:
                return f"the kernel's nftables has no '{feature}' ({where}): {_first_error(complaint)}"
    return f"nftables does not take {file}: {_first_error(complaint)}"


def _change(commands: str) -> bool:
    """Whether nft has done all of it; else it has done nothing."""
    return _run([require_program("nft", "nftables"), commands]).returncode == 0


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Raises SystemLacks if it cannot be run, for want of descriptors or memory."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, input=text)
    except OSError as error:
        raise SystemLacks(f"cannot run {command[0]}: {error.strerror}") from None


def _first_error(text: str) -> str:
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.endswith(":")]
    return next((line for line in lines if "rror" in line), lines[0] if lines else "no reason given")
