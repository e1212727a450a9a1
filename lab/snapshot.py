# SPDX-License-Identifier: GPL-2.0-or-later
"""All that a daemon could have changed on a box, as text that can be compared: before and after, whatever happened."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from lab.node import Node

Snapshot = dict[str, list[str]]

SETTINGS = ("mptcp", "ipv4", "ipv6")  # folders of /proc/sys/net, with all that is below them
QUEUES = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")

ENDPOINT_ID = re.compile(r"\bid \d+ ")  # the kernel goes on counting from those it gave before


def snapshot(node: Node, run_dir: Path) -> Snapshot:
    """The node's packet filter, routing, Multipath TCP, settings, sockets, processes, and the files in `run_dir`.

    What is not in it: counters, and the numbers of processes, rules and endpoints, which are new each time.
    LabError if a command to look with fails.
    """
    return {
        "nftables": sorted(_tables(_run(node, "nft --stateless list ruleset"))),
        "iptables": _run(node, "iptables -w -t mangle -S"),
        "ip6tables": _run(node, "ip6tables -w -t mangle -S"),
        "routing IPv4": _batch(node, 4, "rule show", "route show table all"),
        "routing IPv6": _batch(node, 6, "rule show", "route show table all"),
        "mptcp": [ENDPOINT_ID.sub("", line) for line in _batch(node, 4, "mptcp endpoint show", "mptcp limits show")],
        "settings": list(_settings(node)),
        "listeners": sorted(" ".join(line.split()) for line in chain(_run(node, "ss -Hlnt"), _run(node, "ss -HlnM"))),
        "queues": _queues(node),
        "processes": sorted(map(_command, node.pids())),
        "files": sorted(f"{path.name}{_kind(path)}" for path in run_dir.iterdir()),
    }


def difference(before: Snapshot, after: Snapshot) -> list[str]:
    """What has come and gone, a line each: empty if nothing has."""
    lines = []
    for topic, were in before.items():
        are = after[topic]
        lines += [f"gone from {topic}: {line}" for line in _without(were, are)]
        lines += [f"new in {topic}: {line}" for line in _without(are, were)]
    return lines


def _without(lines: Iterable[str], others: list[str]) -> Iterator[str]:
    left = list(others)
    for line in lines:
        if line in left:
            left.remove(line)
        else:
            yield line


def _run(node: Node, command: str, text: str = "") -> list[str]:
    return [line.rstrip() for line in node.run(command.split(), text=text).stdout.splitlines()]


def _batch(node: Node, family: int, *lines: str) -> list[str]:
    return _run(node, f"ip -{family} -batch -", text="\n".join(lines))


def _tables(ruleset: list[str]) -> Iterator[str]:
    """Each table as one text: their order tells only who came last."""
    table: list[str] = []
    for line in ruleset:
        table.append(line)
        if line == "}":
            yield "\n".join(table)
            table.clear()


def _settings(node: Node) -> Iterator[str]:
    with node.entered():
        for folder in SETTINGS:
            for path in sorted(Path("/proc/sys/net", folder).rglob("*")):
                if path.is_file() and path.stat().st_mode & 0o400:
                    yield f"{path.relative_to('/proc/sys/net')} = {_value(path)}"


def _value(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:  # a secret that was never set
        return str(error.strerror)


def _queues(node: Node) -> list[str]:
    with node.entered():
        return [line.split()[0] for line in QUEUES.read_text().splitlines()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""  # ended meanwhile


def _kind(path: Path) -> str:
    return "=" if path.is_socket() else "/" if path.is_dir() else ""
