# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel says of its SYNs, by its settings, and of a connection's subflows."""

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from common import mptcp
from common.inventory import elsewhere
from common.transparent import MPTCP, TCP


@pytest.mark.parametrize(
    ("settings", "syns", "falls_back"),
    [
        ({"blackhole_timeout": "0", "syn_retrans_before_tcp_fallback": "2"}, 3, True),  # since 6.15
        ({"blackhole_timeout": "0", "syn_retrans_before_tcp_fallback": "0"}, 1, True),
        ({"blackhole_timeout": "0", "syn_retrans_before_tcp_fallback": "3"}, 4, False),
        ({"blackhole_timeout": "0", "syn_retrans_before_tcp_fallback": "128"}, 129, False),
        ({"blackhole_timeout": "0"}, 3, True),  # since 6.12
        ({}, 128, False),
    ],
)
def test_whether_the_kernel_leaves_the_option_out_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], syns: int, falls_back: bool
) -> None:
    for name, value in settings.items():
        (tmp_path / name).write_text(f"{value}\n")
    monkeypatch.setattr(mptcp, "_SETTINGS", tmp_path)
    assert (mptcp.syns_with_the_option(), mptcp.falls_back()) == (syns, falls_back)


def connected(protocol: int) -> Any:
    """Rate, round trip and what is left of each subflow, and what waits, before and after bytes that nobody reads."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as client,
    ):
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        with listener.accept()[0] as server:
            client.sendall(bytes(1_000_000))
            server.recv(1_000_000, socket.MSG_WAITALL)
            time.sleep(0.01)
            before = mptcp.waiting(client)
            client.setblocking(False)
            while True:
                try:
                    client.send(bytes(65536))
                except BlockingIOError:
                    break
            return [[[it.rate, it.rtt, it.left, it.srtt] for it in mptcp.paths(client)], before, mptcp.waiting(client)]


@pytest.mark.root
def test_the_subflows_of_a_connection() -> None:
    paths, before, after = elsewhere(lambda: connected(MPTCP))
    ((rate, rtt, left, srtt),) = paths
    assert rate > 1_000_000
    assert 0 < rtt < 0.01
    assert before[0] == after[0] == 1
    assert after[1] > max(before[1], 100_000)
    assert 65536 < left < after[1] + 65536  # counted in whole segments
    assert 0 < srtt < 10


@pytest.mark.root
def test_plain_tcp_has_none() -> None:
    assert elsewhere(lambda: connected(TCP)) == [[], None, None]
