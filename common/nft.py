# SPDX-License-Identifier: GPL-2.0-or-later
"""The box's nftables table, and the one rule that nftables itself may not know: the queue.

The text of the table is in nftables/*.nft; here it is given its values, checked, loaded whole and taken out again.
Where the kernel has no nft ``queue`` expression (CONFIG_NFT_QUEUE), iptables' NFQUEUE takes what the table marked.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from common import marks
from common.counters import packets
from common.log import log
from common.prefixes import Network
from common.system import SystemLacks, require_program

_TABLE: Final = "inet hybrid_access"
_COMMENT: Final = "hybrid-access"
_NOBODY: Final = {4: "0.0.0.0", 6: "::"}  # for a set in which there is nobody: nft takes no empty one

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
    return "{ " + ", ".join(f'"{element}"' for element in elements) + " }"


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


def fill(sets: Mapping[str, str]) -> None:
    """Gives sets of the table other elements, all of them at once or none. Raises SystemLacks."""
    lines = []
    for name, elements in sets.items():
        lines += [f"flush set {_TABLE} {name}", f"add element {_TABLE} {name} {elements}"]
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
    found = packets(_TABLE.split()[1])
    return {name: found[counter] for counter, name in names.items() if found.get(counter)}


@dataclass(frozen=True, slots=True)
class Place:
    """Where SYNs wait: with which mark, in which chain of ours, or else in which one of iptables."""

    mark: int
    chain: str
    table: str
    hook: str


ARRIVING: Final = Place(marks.GATE, "hold", "mangle", "PREROUTING")
FORWARDED: Final = Place(marks.GATE_INBOUND, "hold_inbound", "security", "FORWARD")
GIVEN_UP: Final = Place(marks.GATE_INBOUND, "hold", "mangle", "PREROUTING")  # their RSTs, which a firewall may drop


def add_queue_rule(first: int, count: int, place: Place = ARRIVING) -> Callable[[], None]:
    """Sends marked SYNs to the queues ``first`` ... ``first + count - 1``; returns the undo. Raises SystemLacks.

    Which of the queues, the addresses decide: a copy of a SYN must come to the worker that has the first (nft's fanout
    flag and iptables' --queue-cpu-fanout would go by the CPU instead).
    """
    queues = str(first) if count == 1 else f"{first}-{first + count - 1}"
    match = f"meta mark & {marks.MASK:#x} == {place.mark:#x}"
    nft = require_program("nft", "nftables")
    done = _run(
        [
            nft,
            "add",
            "rule",
            *_TABLE.split(),
            place.chain,
            *match.split(),
            *f"queue flags bypass to {queues}".split(),
        ]
    )
    if done.returncode == 0:
        log.info("SYNs wait in nft's own queue %s", queues)
        return lambda: None  # goes with the table
    log.info("the kernel has no nft queue (CONFIG_NFT_QUEUE): SYNs wait in iptables' NFQUEUE %s", queues)
    _add_iptables_rules(first, count, place)
    return remove_iptables_rules


def remove_iptables_rules() -> None:
    """Takes out every rule of ours, also those of a daemon that crashed."""
    for iptables in ("iptables", "ip6tables"):
        try:
            program = require_program(iptables, "iptables")
        except SystemLacks:
            continue
        for place in (ARRIVING, FORWARDED):
            for line in _run([program, "-w", "-t", place.table, "-S", place.hook]).stdout.splitlines():
                words = line.split()
                if _COMMENT in words and words[0] == "-A":
                    _run([program, "-w", "-t", place.table, "-D", *words[1:]])
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
    queues = ["--queue-num", str(first)] if count == 1 else ["--queue-balance", f"{first}:{first + count - 1}"]
    for program in [require_program(name, "iptables") for name in ("iptables", "ip6tables")]:
        rule = [place.hook, "-m", "mark", "--mark", f"{place.mark:#x}/{marks.MASK:#x}"]
        rule += ["-m", "comment", "--comment", _COMMENT, "-j", "NFQUEUE", *queues, "--queue-bypass"]
        done = _run([program, "-w", "-t", place.table, "-A", *rule])
        if done.returncode:
            remove_iptables_rules()
            raise SystemLacks(f"the kernel has no netfilter queue for us: {_first_error(done.stderr)}")


def _why_refused(file: str, complaint: str) -> str:
    """nft points at what the kernel did not take: a line of the file with carets under it."""
    lines = complaint.splitlines()
    for rule, pointer in pairwise(lines):
        start, end = pointer.find("^"), pointer.rfind("^") + 1
        for feature, where in FEATURES.items():
            if start >= 0 and feature in rule[start:end]:
                return f"the kernel's nftables has no '{feature}' ({where}): {_first_error(complaint)}"
    return f"nftables does not take {file}: {_first_error(complaint)}"


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, input=text)


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "rror" in line), lines[0] if lines else "no reason given")
