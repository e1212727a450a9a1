# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's settings say of its SYNs."""

from pathlib import Path

import pytest

from common import mptcp


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
