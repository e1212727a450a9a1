# SPDX-License-Identifier: GPL-2.0-or-later
"""Services as Debian packages them, on their usual ports: HTTPS, SSH, FTP, git; and a stream of events over HTTP.

Each runs in the foreground with a configuration, keys and files of its own in the node's directory, is ready when its
constructor returns, and raises SystemLacksError, naming the program, where that is not installed.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.errors import SystemLacksError
from lab.node import Node
from lab.process import python_path
from lab.servers import listens

NGINX = """\
daemon off;
master_process off;
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type application/octet-stream;
    client_max_body_size 0;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    ssl_certificate {directory}/server.pem;
    ssl_certificate_key {directory}/server.key;
    server {{
        listen 443 ssl http2;
        listen [::]:443 ssl http2 ipv6only=on;
        root {directory}/files;
        location / {{ dav_methods PUT; }}
    }}
}}
"""

SSHD = """\
Port 22
HostKey {directory}/host
PidFile none
AuthorizedKeysFile {directory}/user.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"""

# Nothing of the user's own: neither keys and known hosts, nor a configuration that may send connections elsewhere.
SSH_OPTIONS = {
    "BatchMode": "yes",
    "IdentitiesOnly": "yes",
    "StrictHostKeyChecking": "yes",
    "GlobalKnownHostsFile": "/dev/null",
}

GIT = ["env", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "git"]

DEBIAN_PYTHON = "/usr/bin/python3"  # which sees Debian's packages, unlike the one of a virtual environment


class SecureWebServer:
    """nginx with TLS, HTTP/1.1 and HTTP/2, its certificate signed by a CA of its own: GET and PUT in `files`."""

    PORT = 443

    def __init__(self, node: Node) -> None:
        require("nginx", "openssl")
        self._node = node
        directory = new_directory(node)
        self.files = directory / "files"
        self.files.mkdir()
        self.ca = directory / "ca.pem"
        certify(directory, [node.address("core", family) for family in (4, 6)])
        configuration, log = directory / "nginx.conf", directory / "error.log"
        configuration.write_text(NGINX.format(directory=directory))
        self.process = node.start(["nginx", "-c", str(configuration), "-e", str(log)], log=log)
        self.process.wait_until(lambda: listens(node, self.PORT))

    def url(self, path: str, family: int) -> str:
        return f"https://{in_url(self._node, family)}/{path}"


class SshServer:
    """OpenSSH: root may log in with the key `user`, and does whatever it likes."""

    PORT = 22

    def __init__(self, node: Node) -> None:
        require("sshd", "ssh-keygen")
        self._node = node
        self.directory = new_directory(node)
        self._user = self.directory / "user"
        for key in ("host", "user"):
            node.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.directory / key)])
        key = (self.directory / "host.pub").read_text()
        self._known = self.directory / "known"
        self._known.write_text("".join(f"{node.address('core', family)} {key}" for family in (4, 6)))
        configuration = self.directory / "sshd_config"
        configuration.write_text(SSHD.format(directory=self.directory))
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # compiled in: where the unprivileged part is locked up
        sshd = shutil.which("sshd") or ""  # by its whole path, or it refuses: it starts itself again
        self.process = node.start([sshd, "-D", "-e", "-f", str(configuration)], name="sshd")
        self.process.wait_until(lambda: listens(node, self.PORT))

    def client(self, program: str) -> list[str]:
        """`ssh`, `scp` or `sftp` with the options that make it come in."""
        require(program)
        options = {**SSH_OPTIONS, "IdentityFile": self._user, "UserKnownHostsFile": self._known}
        return [program, "-q", "-F", "none", *(f"-o{name}={value}" for name, value in options.items())]

    def path(self, file: Path, family: int) -> str:
        """A file on the server as scp calls it."""
        return f"root@{in_url(self._node, family)}:{file}"


class FtpServer:
    """pyftpdlib: anybody may read and write in `files`."""

    PORT = 21

    def __init__(self, node: Node, family: int) -> None:
        if subprocess.run([DEBIAN_PYTHON, "-c", "import pyftpdlib"], capture_output=True, check=False).returncode:
            raise SystemLacksError("the Debian package 'python3-pyftpdlib' is not installed")
        self._node = node
        self.files = new_directory(node)
        address = node.address("core", family)
        command = [DEBIAN_PYTHON, "-W", "ignore", "-m", "pyftpdlib", "--write"]
        command += ["--interface", address, "--port", str(self.PORT), "--directory", str(self.files)]
        self.process = node.start(command, name="the FTP server")
        self.process.wait_until(lambda: listens(node, self.PORT))

    def url(self, path: str, family: int) -> str:
        return f"ftp://{in_url(self._node, family)}/{path}"


class GitServer:
    """git's own daemon: anybody may clone, and push to, the bare repositories in `directory`."""

    PORT = 9418

    def __init__(self, node: Node) -> None:
        require("git")
        self._node = node
        self.directory = new_directory(node)
        command = [*GIT, "daemon", "--export-all", "--enable=receive-pack", "--reuseaddr", "--max-connections=0"]
        command += [f"--base-path={self.directory}", str(self.directory)]
        self.process = node.start(command, name="the git daemon")
        self.process.wait_until(lambda: listens(node, self.PORT))

    def url(self, path: str, family: int) -> str:
        return f"git://{in_url(self._node, family)}/{path}"


class EventServer:
    """Server-sent events over HTTP, each as its time comes (see `lab.eventserver`)."""

    PORT = 8080

    def __init__(self, node: Node) -> None:
        self._node = node
        command = [sys.executable, "-m", "lab.eventserver", str(self.PORT)]
        self.process = node.start(command, environment=python_path(), name="the event server")
        self.process.wait_until(lambda: listens(node, self.PORT))

    def url(self, count: int, interval: float, family: int) -> str:
        """A stream of so many events, `interval` seconds between them."""
        return f"http://{in_url(self._node, family)}:{self.PORT}/{count}/{interval}"


def certify(directory: Path, addresses: Sequence[str]) -> None:
    """Makes ca.pem and ca.key, and server.pem and server.key for these addresses, valid for two days."""
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = "subjectAltName=" + ",".join(f"IP:{address}" for address in addresses)
    by_ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", names, "-addext", "basicConstraints=CA:FALSE"]
    for name, rest in (("ca", []), ("server", by_ca)):
        files = ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(
            ["openssl", "req", "-x509", *new_key, *files, *rest], cwd=directory, capture_output=True, check=True
        )


def require(*programs: str) -> None:
    """Raises SystemLacksError, naming the first of these programs that is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            raise SystemLacksError(f"the program '{program}' is not installed")


def new_directory(node: Node) -> Path:
    """An empty one in the node's, for one server's life."""
    return Path(tempfile.mkdtemp(dir=node.directory))


def in_url(node: Node, family: int) -> str:
    """The server's address as URLs have it."""
    address = node.address("core", family)
    return f"[{address}]" if family == 6 else address
