# SPDX-License-Identifier: GPL-2.0-or-later
"""What kernel and system offer of what the daemons use, and what takes the place of what is missing.

Nothing of the box is changed: rules are tried in a network namespace that is made for it and goes with the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from common import mptcp, nft
from common.nfqueue import Queue
from common.path_manager import Announcer
from common.settings import Sysctl
from common.system import SystemLacks, families, require_mptcp, require_program
from common.transparent import MPTCP

_CLONE_NEWNET: Final = 0x40000000
_TCP_NOTSENT_LOWAT: Final = 25
_IP_BIND_ADDRESS_NO_PORT: Final = 24
_OLDEST: Final = (6, 1)
_FD_PER_FLOW: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """``found`` None is unknown; ``text`` says what there is, or what is done without it. Without one that is needed no
    daemon starts.
    """

    what: str
    found: bool | None
    text: str
    needed: bool = False


def take(settings: Iterable[Sysctl]) -> list[Finding]:
    """Everything; ``settings`` are those that the daemons change."""
    return [*at_hand(), *_path_manager(), *_programs(), *_rules(), *_probes(), *map(_setting, settings)]


def at_hand() -> Iterator[Finding]:
    """What can be told at once and without privilege."""
    yield _kernel()
    yield from _multipath()
    both = socket.AF_INET6 in families()
    yield Finding("IPv6", both, "bonded too" if both else "this box lacks it: such connections pass unbonded")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Finding("open files", True, f"at most {hard} in a process: some {hard // _FD_PER_FLOW} connections a worker")


def _kernel() -> Finding:
    release = platform.release()
    with contextlib.suppress(ValueError):
        major, minor, *_ = release.split("-")[0].split(".")
        if (int(major), int(minor)) < _OLDEST:
            return Finding("kernel", False, f"Linux {release} is too old: 6.1 or later is needed", needed=True)
    return Finding("kernel", True, f"Linux {release}", needed=True)


def _multipath() -> Iterator[Finding]:
    try:
        require_mptcp()
    except SystemLacks as lack:
        yield Finding("Multipath TCP", False, str(lack), needed=True)
        return
    yield Finding("Multipath TCP", True, "asked by MPTCP_INFO, which all kernels since 5.16 have", needed=True)
    copies = mptcp.syns_with_the_option()
    detects = copies < mptcp.NEVER
    yield Finding(
        "detection of dropped SYNs",
        detects,
        f"the kernel leaves MP_CAPABLE out after {copies} of them"
        if detects
        else "kernels before 6.12 go on with the option: a connection over such a way does not come about",
    )
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP) as sock:
        bounded = _takes(sock, socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT)
        late = _takes(sock, socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT)
    yield Finding(
        "TCP_NOTSENT_LOWAT",
        bounded,
        "bounds what waits unsent" if bounded else "not on Multipath TCP sockets: only buffers bound what waits unsent",
    )
    yield Finding(
        "IP_BIND_ADDRESS_NO_PORT",
        late,
        "one port may lead to several servers"
        if late
        else "not on Multipath TCP sockets: a router has as many connections over IPv4 as it has ports, some 28000",
    )


def _takes(sock: socket.socket, level: int, option: int) -> bool:
    try:
        sock.setsockopt(level, option, 1)
    except OSError:
        return False
    return True


def _path_manager() -> Iterator[Finding]:
    try:
        Announcer().close()
    except SystemLacks as lack:
        yield Finding("path manager", False, str(lack), needed=True)
        return
    by_name = Path("/proc/sys/net/mptcp/path_manager").exists()
    name = "net.mptcp.path_manager" if by_name else "net.mptcp.pm_type"
    yield Finding("path manager", True, f"over netlink; which one is {name}", needed=True)


def _probes() -> Iterator[Finding]:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except OSError as error:
        without = "a loss that no device shows is left to TCP (a daemon needs CAP_NET_RAW)"
        yield Finding("echo requests", False, f"not to be had: {error.strerror}; {without}")
        return
    yield Finding("echo requests", True, "a router asks the HAG over each link whether it is alive")


def _programs() -> Iterator[Finding]:
    try:
        yield Finding("nft", True, require_program("nft", "nftables"), needed=True)
    except SystemLacks as lack:
        yield Finding("nft", False, str(lack), needed=True)


def _rules() -> list[Finding]:
    """Of the kernel's packet filter, tried out; of a missing one it says which module and which package brings it."""
    try:
        answer = elsewhere(lambda: [asdict(finding) for finding in _try_rules()])
    except OSError as error:
        why = f"not tried, which needs root: {error.strerror}"
        return [Finding("nftables rules", None, why)]
    return [Finding(**finding) for finding in answer]


def _try_rules() -> Iterator[Finding]:
    lacks = nft.lacks()
    for feature, where in nft.FEATURES.items():
        if feature != nft.QUEUE:
            text = f"missing ({where}; on Debian a part of the kernel)" if feature in lacks else "there"
            yield Finding(f"nftables {feature}", feature not in lacks, text, needed=True)
    native = nft.QUEUE not in lacks
    yield Finding(
        "nftables queue",
        native,
        "SYNs wait there" if native else f"missing ({nft.FEATURES[nft.QUEUE]}): iptables' NFQUEUE is used instead",
    )
    if not native:
        yield _iptables()
    try:
        Queue(1).close()
        yield Finding("netfilter queue", True, "there", needed=True)
    except OSError as error:
        reason = f"{error.strerror} (CONFIG_NETFILTER_NETLINK_QUEUE, kmod-nfnetlink-queue)"
        yield Finding("netfilter queue", False, reason, needed=True)


def _iptables() -> Finding:
    try:
        nft.try_iptables()
    except SystemLacks as lack:
        return Finding("iptables NFQUEUE", False, f"{lack} (kmod-ipt-nfqueue)", needed=True)
    return Finding("iptables NFQUEUE", True, "SYNs wait there", needed=True)


def _setting(setting: Sysctl) -> Finding:
    try:
        now = setting.read()
    except OSError as error:
        return Finding(setting.name, None, f"cannot be read: {error.strerror}")
    if now is None:
        return Finding(setting.name, False, "this kernel lacks it, and does without")
    if now == setting.value:
        return Finding(setting.name, True, f"is {now}")
    return Finding(setting.name, True, f"is {now}; {setting.value} while a daemon runs: {setting.why}")


def elsewhere(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, as JSON can say it, in a network namespace of its own. Raises OSError if there is none."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            failed = libc.unshare(_CLONE_NEWNET)
            answer = {"errno": ctypes.get_errno()} if failed else {"result": work()}
            with os.fdopen(writer, "w") as stream:
                json.dump(answer, stream)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    answer = json.loads(text or '{"errno": 5}')
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]))
    return answer["result"]
