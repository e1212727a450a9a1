# SPDX-License-Identifier: GPL-2.0-or-later
"""Which SYNs no box between client and server can answer."""

from typing import Any

import pytest
from scapy.layers.inet import IP, TCP

from common import packet
from common.gate import unfit

JOIN = bytes.fromhex(
    "10020123456789abcdef"
)  # MP_JOIN of a SYN: flags, address id, token, nonce (RFC 8684, section 3.2)
CAPABLE = bytes.fromhex("0181")


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (("MSS", 1460), None),
        ((30, CAPABLE), None),
        (("MD5", bytes(16)), "signed segment"),
        ((29, bytes(14)), "signed segment"),
        ((30, JOIN), "subflow of another connection"),
    ],
    ids=["plain", "MP_CAPABLE", "MD5", "AO", "MP_JOIN"],
)
def test_unfit(option: tuple[Any, Any], why: str | None) -> None:
    header = TCP(sport=40000, dport=179, flags="S", options=[option])
    assert unfit(packet.parse(bytes(IP(src="192.0.2.10", dst="198.51.100.1") / header))) == why
