# SPDX-License-Identifier: GPL-2.0-or-later
"""One TCP connection from the client to the server, opened by hand and timed."""

import socket
import time

from lab.errors import LabError
from lab.patience import PATIENCE
from lab.topology import Lab

TIMEOUT = PATIENCE


def connect(lab: Lab, family: int, port: int, device: str = "lan") -> tuple[socket.socket, float]:
    """A connection from the client's address on `device`, and the milliseconds that opening it took."""
    with lab.client.entered():
        connection = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
    connection.settimeout(TIMEOUT)
    connection.bind((lab.client.address(device, family), 0))
    address = (lab.server.address("core", family), port)
    start = time.perf_counter()
    try:
        connection.connect(address)
    except OSError as error:
        connection.close()
        raise LabError(f"no connection from {device} to {address[0]} port {port}: {error}") from None
    return connection, (time.perf_counter() - start) * 1000


def answers(connection: socket.socket, size: int = 1000) -> None:
    """Sends some bytes to the echo server and reads them back. LabError if they do not come."""
    connection.sendall(bytes(size))
    received = 0
    while received < size:
        block = connection.recv(size - received)
        if not block:
            raise LabError(f"the echo ended after {received} of {size} bytes")
        received += len(block)
