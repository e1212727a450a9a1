# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's counters of a device, beside what sysfs says of the same one."""

import socket
from pathlib import Path

from common.meter import Counters, Meter

LOOPBACK = Path("/sys/class/net/lo/statistics")


def sysfs() -> Counters:
    names = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes")
    return Counters(*(int((LOOPBACK / name).read_text()) for name in names))


def test_a_device_and_one_that_is_not_there() -> None:
    meter = Meter()
    try:
        before, read, after = sysfs(), meter.read(socket.if_nametoindex("lo")), sysfs()
        assert read is not None
        for one in ("packets_down", "packets_up", "bytes_down", "bytes_up"):
            assert getattr(before, one) <= getattr(read, one) <= getattr(after, one)
        assert meter.read(2**31 - 1) is None
    finally:
        meter.close()


def test_what_is_sent_is_counted() -> None:
    meter = Meter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        before = meter.read(socket.if_nametoindex("lo"))
        sender.sendto(bytes(1000), ("127.0.0.1", 9))
        after = meter.read(socket.if_nametoindex("lo"))
    meter.close()
    assert before
    assert after
    assert after.bytes_up - before.bytes_up >= 1028
    assert after.packets_up > before.packets_up
