# SPDX-License-Identifier: GPL-2.0-or-later
"""What a box offers: tried for real, and on kernels that are made to seem older."""

import errno
import os
import platform
import socket
from pathlib import Path

import pytest

from common import inventory, mptcp, nft
from common.inventory import Finding, at_hand, elsewhere, take
from common.settings import Sysctl
from common.system import SystemLacks


def find(what: str, settings: tuple[Sysctl, ...] = ()) -> Finding:
    (found,) = (finding for finding in take(settings) if finding.what == what)
    return found


@pytest.mark.root
def test_this_box_has_what_is_needed() -> None:
    assert [finding for finding in take(()) if finding.needed and not finding.found] == []


@pytest.mark.root
def test_what_is_tried_is_tried_elsewhere() -> None:
    here = os.readlink("/proc/self/ns/net")
    assert elsewhere(lambda: os.readlink("/proc/self/ns/net")) != here
    assert os.readlink("/proc/self/ns/net") == here


@pytest.mark.root
def test_echo_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find("echo requests").found

    def refuse(family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        if kind == socket.SOCK_RAW and protocol == socket.IPPROTO_ICMP:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return whole(family, kind, protocol)

    whole = socket.socket
    monkeypatch.setattr(inventory.socket, "socket", refuse)
    assert [it.text[:40] for it in inventory._probes()] == ["not to be had: Operation not permitted; "]


@pytest.mark.root
def test_a_kernel_without_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "lacks", lambda: {"queue"})
    text = "missing (CONFIG_NFT_QUEUE, kmod-nft-queue): iptables' NFQUEUE is used instead"
    assert find("nftables queue") == Finding("nftables queue", False, text)
    assert find("iptables NFQUEUE").found


@pytest.mark.root
def test_a_kernel_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise SystemLacks("the kernel has no netfilter queue for us: no such target")

    monkeypatch.setattr(nft, "lacks", lambda: {"queue", "tproxy"})
    monkeypatch.setattr(nft, "try_iptables", refuse)
    assert find("iptables NFQUEUE").text.endswith("no such target (kmod-ipt-nfqueue)")
    text = "missing (CONFIG_NFT_TPROXY, kmod-nft-tproxy; on Debian a part of the kernel)"
    assert find("nftables tproxy") == Finding("nftables tproxy", False, text, needed=True)


def test_without_privilege_rules_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(inventory, "elsewhere", refuse)
    assert find("nftables rules").found is None


@pytest.mark.parametrize(
    ("release", "found"), [("6.1.0-13-amd64", True), ("5.15.0", False), ("4.19", False), ("x", True)]
)
def test_kernels(monkeypatch: pytest.MonkeyPatch, release: str, found: bool) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert next(at_hand()).found is found


def test_a_kernel_that_goes_on_with_the_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mptcp, "_SETTINGS", tmp_path)
    (finding,) = (it for it in at_hand() if it.what == "detection of dropped SYNs")
    assert finding.text.startswith("kernels before 6.12 go on with the option")


def test_settings() -> None:
    assert find("net.no.such", (Sysctl("net.no.such", "1", "why"),)).found is False
    now = Path("/proc/sys/net/ipv4/tcp_retries1").read_text().strip()
    assert find("net.ipv4.tcp_retries1", (Sysctl("net.ipv4.tcp_retries1", now, "why"),)).text == f"is {now}"
    told = find("net.ipv4.tcp_retries1", (Sysctl("net.ipv4.tcp_retries1", "77", "why"),)).text
    assert told == f"is {now}; 77 while a daemon runs: why"
