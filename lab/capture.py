# SPDX-License-Identifier: GPL-2.0-or-later
"""What passes a device, by tcpdump: every TCP segment, byte for byte, with the time at which the kernel saw it."""

import re
import signal
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from common import packet
from common.packet import Segment
from lab.errors import LabError
from lab.node import Node

# pcap-savefile(5), in the byte order of the machine. The magic number says that times are in nanoseconds.
_FILE = struct.Struct("=IHHiIII")  # magic, version (two), zone, sigfigs, longest packet, link type
_RECORD = struct.Struct("=IIII")  # seconds, nanoseconds, bytes in the file, bytes on the wire
_MAGIC = 0xA1B23C4D
_IP_OFFSETS = {1: 14, 101: 0}  # LINKTYPE_ETHERNET (veth), LINKTYPE_RAW (TUN): where the IP header begins

_COUNTS = re.compile(r"(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped by kernel")


@dataclass(frozen=True, slots=True)
class Captured:
    """One segment: `time` in nanoseconds since 1970, `data` from the IP header on, as the device had it.

    What this machine sends over a veth pair is seen before it is cut to the MTU and has its checksum filled in: a
    veth pair has no need of either. A TUN device asks for both, so there all is as on a wire.
    """

    time: int
    data: bytes
    segment: Segment


class Capture:
    """One device, from the constructor's return to `stop`. The file is the node's and vanishes with the lab."""

    def __init__(self, node: Node, device: str) -> None:
        self._file = node.directory / f"{device}.pcap"
        command = ["tcpdump", "-i", device, "-n", "-p", "-U", "-s", "0", "-B", "16384"]
        command += ["--time-stamp-precision=nano", "-w", str(self._file), "tcp"]
        self._process = node.start(command, name=f"tcpdump on {device} of {node.label}")
        self._process.wait_until(lambda: "listening on" in self._process.output())

    def stop(self) -> list[Captured]:
        """Everything that the device has seen until now, in order. Takes up to a second.

        LabError if the capture is not complete. PacketError for what is not whole: a fragment.
        """
        # libpcap reads the kernel's buffer once a second, and SIGTERM would end tcpdump before that
        self._process.wait_until(self._caught_up)
        self._process.stop()
        return [Captured(time, data, packet.parse(data)) for time, data in read_pcap(self._file.read_bytes())]

    def _caught_up(self) -> bool:
        """Whether tcpdump has written all there was. It is asked each time, and may answer the next time."""
        answers = _COUNTS.findall(self._process.output())
        self._process.signal(signal.SIGUSR1)
        if not answers:
            return False
        captured, received, dropped = map(int, answers[-1])
        if dropped:
            raise LabError(f"{self._process.name} missed {dropped} of {received} packets")
        return captured == received


def read_pcap(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Time (nanoseconds since 1970) and bytes from the IP header on, for each packet of a file by `Capture`."""
    magic, *_, link_type = _FILE.unpack_from(data)
    if magic != _MAGIC or link_type not in _IP_OFFSETS:
        raise LabError(f"the capture has magic number {magic:#x} and link type {link_type}, which nobody asked for")
    start = _FILE.size
    while start < len(data):
        seconds, nanoseconds, size, _ = _RECORD.unpack_from(data, start)
        start += _RECORD.size
        yield seconds * 10**9 + nanoseconds, data[start + _IP_OFFSETS[link_type] : start + size]
        start += size
