# SPDX-License-Identifier: GPL-2.0-or-later
"""All that a daemon could have changed on a box, as text that can be compared: before and after, whatever happened."""

import re
from collections.abc import Iterator
from difflib import unified_diff
from itertools import chain
from pathlib import Path

from lab.node import Node

Snapshot = dict[str, list[str]]

SETTINGS = ("/proc/sys/net/mptcp", "/proc/sys/net/ipv4", "/proc/sys/net/ipv6")
QUEUES = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")

# What packets have put into a set, rather than people.
LEARNED = re.compile(r"(\tflags [^\n]*\bdynamic\b[^}]*?)\s+elements = \{[^}]*\}")
ENDPOINT_ID = re.compile(r"\bid \d+ ")  # the kernel goes on counting from those it gave before


def snapshot(node: Node, run_dir: Path) -> Snapshot:
    """The node's packet filter, routing, Multipath TCP, settings, sockets, processes, and the files in `run_dir`.

    What is not in it: a daemon's last words, counters, what packets have put into sets, and the numbers of processes,
    rules and endpoints, which are new each time.
    LabError if a command to look with fails.
    """
    return {
        "nftables": sorted(_tables(_run(node, "nft --stateless list ruleset"))),
        "iptables": _run(node, "iptables -w -t mangle -S"),
        "ip6tables": _run(node, "ip6tables -w -t mangle -S"),
        "routing IPv4": _batch(node, 4, "rule show", "route show table all"),
        "routing IPv6": _batch(node, 6, "rule show", "route show table all"),
        "mptcp": [ENDPOINT_ID.sub("", line) for line in _batch(node, 4, "mptcp endpoint show", "mptcp limits show")],
        "settings": _settings(node),
        "listeners": sorted(" ".join(line.split()) for line in chain(_run(node, "ss -Hlnt"), _run(node, "ss -HlnM"))),
        "queues": _queues(node),
        "processes": sorted(map(_command, node.pids())),
        "files": sorted(f"{path.name}{_kind(path)}" for path in run_dir.iterdir() if path.suffix != ".failure"),
    }


def difference(before: Snapshot, after: Snapshot) -> list[str]:
    """What has gone ("-") and come ("+"), a line each with its topic: empty if nothing has."""
    return [
        f"{topic}: {line}"
        for topic in before
        for line in unified_diff(_lines(before[topic]), _lines(after[topic]), n=0, lineterm="")
        if not line.startswith(("---", "+++", "@@"))
    ]


def _lines(texts: list[str]) -> list[str]:
    return "\n".join(texts).splitlines()


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
            yield LEARNED.sub(r"\1", "\n".join(table))
            table.clear()


def _settings(node: Node) -> list[str]:
    """All of them: nobody needs to know which ones a daemon may touch. Those that cannot be read are left out."""
    return sorted(node.run(["grep", "-rs", "", *SETTINGS], check=False).stdout.splitlines())


def _queues(node: Node) -> list[str]:
    with node.entered():
        # the file comes with the module, which comes with the first queue
        return [line.split()[0] for line in QUEUES.read_text().splitlines()] if QUEUES.exists() else []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""  # ended meanwhile


def _kind(path: Path) -> str:
    return "=" if path.is_socket() else "/" if path.is_dir() else ""
