# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers of the lab: files over HTTP, iperf3, bare TCP. Each is ready when its constructor returns."""

import hashlib
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.node import Node
from lab.process import python_path

CHUNK = 1 << 20

# One process, in the foreground, which leaves everything it writes in its own directory.
NGINX = """\
daemon off;
master_process off;
error_log {directory}/error.log;
pid {directory}/nginx.pid;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    default_type application/octet-stream;
    client_max_body_size 0;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 80 backlog=4096;
        listen [::]:80 ipv6only=on backlog=4096;
        root {directory}/files;
        location / {{ dav_methods PUT DELETE; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Content:
    """A file of the web server: `path` as in the URL, `size` in bytes, SHA-256 as hexadecimal digits."""

    path: str
    size: int
    sha256: str


class WebServer:
    """nginx on port 80, both families: GET what was published, PUT anything to any path."""

    PORT = 80

    def __init__(self, node: Node) -> None:
        self._node = node
        self._directory = node.directory / "nginx"
        self.files.mkdir(parents=True)
        configuration = self._directory / "nginx.conf"
        configuration.write_text(NGINX.format(directory=self._directory))
        log = self._directory / "error.log"
        self.process = node.start(["nginx", "-c", str(configuration), "-e", str(log)], log=log)
        self.process.wait_until(lambda: listens(node, self.PORT))

    @property
    def files(self) -> Path:
        return self._directory / "files"

    def url(self, path: str, family: int, address: str = "") -> str:
        """The URL of `path`, with an address of the server in it, its own if none is given: no name to be looked up."""
        address = address or self._node.address("core", family)
        return f"http://[{address}]/{path}" if family == 6 else f"http://{address}/{path}"

    def publish(self, path: str, size: int, seed: int = 0) -> Content:
        """Serves `size` random bytes, the same ones for the same seed, at `path`."""
        source = random.Random(seed)
        digest = hashlib.sha256()
        with (self.files / path).open("wb") as file:
            for start in range(0, size, CHUNK):
                block = source.randbytes(min(CHUNK, size - start))
                digest.update(block)
                file.write(block)
        return Content(path, size, digest.hexdigest())

    def uploaded(self, path: str) -> Content:
        """What was PUT to `path`; FileNotFoundError if nothing was, to its end."""
        with (self.files / path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Content(path, file.tell(), digest)


class IperfServer:
    """iperf3, one test at a time; runs on `node`."""

    def __init__(self, node: Node, port: int = 5201, *, under: Sequence[str] = ()) -> None:
        """`under` is a command that it and its clients are started with, such as mptcpize."""
        self.port = port
        self._under = under
        self._address = {family: node.address("core", family) for family in (4, 6)}
        self._node = node
        self._start()

    def _start(self) -> None:
        self.process = self._node.start([*self._under, "iperf3", "--server", "--port", str(self.port)], name="iperf3")
        self.process.wait_until(lambda: listens(self._node, self.port))

    def restart(self) -> None:
        """After a test that did not come to its end, which the server may still wait for."""
        self.process.stop()
        self._start()

    def measure(self, client: Node, family: int, *options: str, timeout: float = 120.0) -> dict[str, Any]:
        """Runs one test from `client`, gives iperf3's own report; LabError with its words if it fails.

        `options` are iperf3's, such as "--reverse" for a download, "--time", "5".
        """
        command = [*self._under, "iperf3", "--json", "--client", self._address[family], "--port", str(self.port)]
        report: dict[str, Any] = json.loads(client.run([*command, *options], timeout=timeout).stdout)
        return report


class TcpServer:
    """Answers on one TCP port in one of these ways, as long as connections last (see `lab.tcpserver`).

    'echo' sends back what comes, 'sink' swallows it, 'source' sends zeroes until the client goes.
    """

    def __init__(self, node: Node, mode: str = "echo", port: int = 7) -> None:
        self.port = port
        command = [sys.executable, "-m", "lab.tcpserver", mode, str(port)]
        self.process = node.start(command, environment=python_path(), name=f"the TCP {mode} server")
        self.process.wait_until(lambda: listens(node, port))


def listens(node: Node, port: int) -> bool:
    """Whether a socket on `node` listens on TCP `port`; iperf3 would take a connection for a test."""
    with node.entered():
        tables = [Path(f"/proc/thread-self/net/{name}").read_text() for name in ("tcp", "tcp6")]
    # proc(5): the second column is the local address as HEX:PORT, the fourth the state; 0A is LISTEN
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port for row in rows)
