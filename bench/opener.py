# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens short connections at a steady rate and times them: `python -m bench.opener ADDRESS PORT PATH RATE SECONDS`.

An open loop: a slow answer does not slow the next question. Prints one JSON object: for each connection, in ms,
'handshake', from SYN to SYN/ACK as the kernel saw it (so this program's own delays are not in it), and 'answered', from
connect() to the first byte of the response; and 'failed', how many did not come to their end.
"""

import contextlib
import errno
import json
import select
import socket
import sys
import time

TCP_INFO_RTT = slice(68, 72)  # linux/tcp.h: tcpi_rtt, microseconds; after the handshake alone, its time
TCP_INFO_RETRANS = slice(100, 104)  # tcpi_total_retrans
TCP_INFO_SIZE = 104
PATIENCE = 5.0  # seconds for the last ones


class Opened:
    """One connection: `began` on time.perf_counter, `answered` and `handshake` in ms once known."""

    __slots__ = ("answered", "began", "handshake", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.socket.setblocking(False)
        self.handshake = 0.0
        self.answered = 0.0
        self.began = time.perf_counter()
        if (error := self.socket.connect_ex(address)) not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(error, "connect")

    def go_on(self, request: bytes) -> bool:
        """Goes as far as it can now; says whether that is the end. Raises OSError."""
        if not self.handshake:
            passed = (time.perf_counter() - self.began) * 1000
            self.socket.send(request[:0])  # raises what connect() met
            info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
            again = int.from_bytes(info[TCP_INFO_RETRANS], sys.byteorder)
            rtt = int.from_bytes(info[TCP_INFO_RTT], sys.byteorder) / 1000
            self.handshake = passed if again or not rtt else rtt  # the kernel times the last SYN alone
            self.socket.send(request)
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(4096):
                self.answered = self.answered or (time.perf_counter() - self.began) * 1000
            if not self.answered:
                raise ConnectionResetError(errno.ECONNRESET, "ended without an answer")
            return True
        return False


def run(address: tuple[str, int], path: str, rate: float, seconds: float) -> dict[str, list[float] | int]:
    request = f"GET /{path} HTTP/1.0\r\n\r\n".encode()
    poll = select.epoll()
    opened: dict[int, Opened] = {}
    done: list[Opened] = []
    failed = begun = 0
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or (opened and passed < seconds + PATIENCE):
        while passed < seconds and begun < passed * rate:
            begun += 1
            try:
                one = Opened(address)
            except OSError:
                failed += 1
                continue
            opened[one.socket.fileno()] = one
            poll.register(one.socket, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        next_one = begun / rate - passed if passed < seconds else 0.1
        for descriptor, _events in poll.poll(max(next_one, 0.0)):
            one = opened[descriptor]
            try:
                if not one.go_on(request):
                    continue
                done.append(one)
            except OSError:
                failed += 1
            del opened[descriptor]
            one.socket.close()
    return {
        "handshake": [round(one.handshake, 4) for one in done],
        "answered": [round(one.answered, 4) for one in done],
        "failed": failed + len(opened),
    }


if __name__ == "__main__":
    host, port, path, rate, seconds = sys.argv[1:]
    print(json.dumps(run((host, int(port)), path, float(rate), float(seconds))))
