# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on programs that people use: they work through the pair, every byte and every connection of them."""

import contextlib
import hashlib
import json
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.daemons import Daemon
from lab.fidelity.bench import PATIENCE, Bench, Via, equal, expect, payload
from lab.fidelity.matrix import row
from lab.services import GIT, EventServer, FtpServer, GitServer, SecureWebServer, SshServer, require

DOWN = 1_000_003  # bytes of a file: enough for subflows over LTE, and for splice
UP = 300_001
SMALL = 10_007

QUIETLY = ["--silent", "--show-error", "--fail", "--noproxy", "*"]
STANDSTILL = ["--speed-limit", "1", "--speed-time", "10"]  # less than so many bytes a second for so many seconds

HELD_BACK = 0.010  # seconds that an event may be later than without the pair, half of them


@contextlib.contextmanager
def bonding(bench: Bench, connections: int) -> Iterator[None]:
    """Expects that so many connections are opened inside, and that both boxes bond every one of them."""
    before = {daemon.role: opened(bench, daemon) for daemon in (bench.cpe, bench.hag)}
    yield
    for daemon in (bench.cpe, bench.hag):
        now = opened(bench, daemon)
        added = {name: now[name] - before[daemon.role].get(name, 0) for name in now}
        wanted = {name: connections if name == "opened: bonded" else 0 for name in now}
        equal(f"what {daemon.name} did with the program's connections", added, wanted)


def opened(bench: Bench, daemon: Daemon) -> dict[str, int]:
    """The daemon's counters on how connections begin."""
    counters: dict[str, int] = daemon.status()["counters"]
    return {"opened: bonded": 0, **{k: v for k, v in counters.items() if k.startswith(("opened: ", "passed: "))}}


def new_file(bench: Bench, size: int, seed: int, directory: Path | None = None) -> Path:
    """A file with random bytes; in the client's directory, or a server's."""
    name = Path(tempfile.mkdtemp(dir=directory or bench.lab.client.directory)) / "file"
    name.write_bytes(payload(size, seed))
    return name


def not_yet(bench: Bench, name: str) -> Path:
    """Where a program on the client is to put a file."""
    return Path(tempfile.mkdtemp(dir=bench.lab.client.directory)) / name


def same(what: str, got: Path, sent: Path) -> None:
    expect(got.exists(), f"{what} did not arrive")
    sizes = got.stat().st_size, sent.stat().st_size
    equal(f"the size of {what}", *sizes)
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (got, sent)]
    equal(f"the SHA-256 of {what}", *hashes)


def curl(bench: Bench, *transfers: Sequence[str | Path], parallel: bool = False) -> list[dict[str, Any]]:
    """What curl tells of each transfer. Mismatch with its words if one of them fails."""
    command: list[str | Path] = ["curl", "--disable", *(["--parallel"] if parallel else [])]
    for number, one in enumerate(transfers):
        command += ["--next"] if number else []
        command += [*QUIETLY, *STANDSTILL, "--write-out", "%{json}\n", *one]
    done = bench.lab.client.run([str(word) for word in command], check=False)
    expect(done.returncode == 0, f"curl fails: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def web(bench: Bench, url: str, files: Path, *options: str | Path) -> list[dict[str, Any]]:
    """A file down, one up and a small one down over one connection, as a browser does; below `url` are `files`."""
    down, small = new_file(bench, DOWN, 1, files), new_file(bench, SMALL, 2, files)
    up, got, got_small = new_file(bench, UP, 3), not_yet(bench, "down"), not_yet(bench, "small")
    stored = down.parent / "up"
    there = {path: url + str(path.relative_to(files)) for path in (down, stored, small)}
    told = curl(
        bench,
        [*options, there[down], "--output", got],
        [*options, there[stored], "--upload-file", up],
        [*options, there[small], "--output", got_small],
    )
    same("the download", got, down)
    same("the upload", stored, up)
    same("the small download", got_small, small)
    equal("the number of curl's connections", sum(one["num_connects"] for one in told), 1)
    return told


@row("13a", "curl over HTTP/1.1, several files on one connection")
def http(bench: Bench) -> None:
    with bonding(bench, 1):
        told = web(bench, bench.pair.web.url("", bench.family), bench.pair.web.files, "--http1.1")
    equal("HTTP's version", [one["http_version"] for one in told], ["1.1"] * 3)


@row("13b", "curl over TLS, its certificate checked")
def tls(bench: Bench) -> None:
    server = SecureWebServer(bench.lab.server)
    bench.undo(server.process.close)
    with bonding(bench, 1):
        told = web(bench, server.url("", bench.family), server.files, "--http1.1", "--cacert", server.ca)
    equal("curl's verdict on the certificate", [one["ssl_verify_result"] for one in told], [0] * 3)


@row("13c", "curl over HTTP/2, downloads and an upload at once on one connection")
def http2(bench: Bench) -> None:
    server = SecureWebServer(bench.lab.server)
    bench.undo(server.process.close)
    files = [new_file(bench, DOWN // 5 + seed, seed, server.files) for seed in range(5)]
    got = [not_yet(bench, "down") for _ in files]
    up = new_file(bench, UP, 9)
    options: list[str | Path] = ["--http2", "--cacert", server.ca]
    downloads = [
        [*options, server.url(str(file.relative_to(server.files)), bench.family), "--output", copy]
        for file, copy in zip(files, got, strict=True)
    ]
    upload = [*options, server.url("up", bench.family), "--upload-file", up]
    with bonding(bench, 1):
        told = curl(bench, *downloads, upload, parallel=True)
    for number, (file, copy) in enumerate(zip(files, got, strict=True)):
        same(f"download {number}", copy, file)
    same("the upload", server.files / "up", up)
    equal("HTTP's versions", [one["http_version"] for one in told], ["2"] * 6)


@row("13d", "scp over ssh, there and back")
def scp(bench: Bench) -> None:
    server = SshServer(bench.lab.server)
    bench.undo(server.process.close)
    up, got = new_file(bench, UP, 1), not_yet(bench, "down")
    down = new_file(bench, DOWN, 2, server.directory)
    stored = server.directory / "up"
    with bonding(bench, 2):
        bench.lab.client.run([*server.client("scp"), str(up), server.path(stored, bench.family)])
        bench.lab.client.run([*server.client("scp"), server.path(down, bench.family), str(got)])
    same("the upload", stored, up)
    same("the download", got, down)


@row("13e", "ssh: a command's input, output and exit status")
def ssh(bench: Bench) -> None:
    server = SshServer(bench.lab.server)
    bench.undo(server.process.close)
    text = payload(SMALL, 1).hex()
    command = [*server.client("ssh"), f"root@{bench.server_address}", "cat; echo done >&2; exit 7"]
    with bonding(bench, 1):
        done = bench.lab.client.run(command, text=text, check=False)
    equal("the exit status", done.returncode, 7)
    equal("what came back", done.stdout, text)
    equal("the words on standard error", done.stderr, "done\n")


@row("13f", "ftp, passive: a list, a file down and one up")
def ftp(bench: Bench) -> None:
    server = FtpServer(bench.lab.server, bench.family)
    bench.undo(server.process.close)
    down, up, got = new_file(bench, DOWN, 1, server.files), new_file(bench, UP, 2), not_yet(bench, "down")
    listing = not_yet(bench, "list")
    with bonding(bench, 4):  # one for commands, three for data
        told = curl(
            bench,
            [server.url(f"{down.parent.name}/", bench.family), "--list-only", "--output", listing],
            [server.url(f"{down.parent.name}/file", bench.family), "--output", got],
            [server.url("up", bench.family), "--upload-file", up],
        )
    equal("the list", listing.read_text().split(), ["file"])
    same("the download", got, down)
    same("the upload", server.files / "up", up)
    equal("what the server said in the end", [one["response_code"] for one in told], [226] * 3)


@row("13g", "git: a clone, and a push of what was committed there")
def git(bench: Bench) -> None:
    server = GitServer(bench.lab.server)
    bench.undo(server.process.close)
    clone, client = not_yet(bench, "clone"), bench.lab.client
    origin = server.directory / "origin.git"
    author = ["-c", "user.name=lab", "-c", "user.email=lab@example.org", "-c", "gc.auto=0"]

    def local(directory: Path, *arguments: str) -> str:
        return client.run([*GIT, "-C", str(directory), *author, *arguments]).stdout.strip()

    def commit(directory: Path, size: int, seed: int) -> str:
        (directory / f"file{seed}").write_bytes(payload(size, seed))
        local(directory, "add", ".")
        local(directory, "commit", "--quiet", "--message", f"file {seed}")
        return local(directory, "rev-parse", "HEAD")

    source = server.directory / "source"
    source.mkdir()
    local(source, "init", "--quiet", "--initial-branch=main")
    published = [commit(source, DOWN // 3, seed) for seed in range(3)][-1]
    local(source, "clone", "--quiet", "--bare", ".", str(origin))
    with bonding(bench, 2):
        client.run([*GIT, "clone", "--quiet", server.url("origin.git", bench.family), str(clone)])
        equal("the commit in the clone", local(clone, "rev-parse", "HEAD"), published)
        pushed = commit(clone, UP, 9)
        local(clone, "push", "--quiet", "origin", "main")
    for directory in (clone, origin):
        equal("the commit", local(directory, "rev-parse", "main"), pushed)
        local(directory, "fsck", "--strict", "--no-dangling")


class EventReader(threading.Thread):
    """curl on a stream of events: what came, and how late each event was, in seconds."""

    def __init__(self, bench: Bench, url: str, via: Via) -> None:
        super().__init__(daemon=True)
        require("curl")
        command = [
            "curl",
            "--disable",
            *QUIETLY,
            "--no-buffer",
            "--interface",
            bench.lab.client.address(via, bench.family),
        ]
        with bench.lab.client.entered():
            self._curl = subprocess.Popen(
                [*command, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
            )
        bench.undo(self._leave)
        self.lines: list[bytes] = []
        self.late: list[float] = []
        self.start()

    def run(self) -> None:
        assert self._curl.stdout
        for line in self._curl.stdout:
            now = time.monotonic()
            self.lines.append(line)
            words = line.split()
            if len(words) == 3:
                self.late.append(now - float(words[1]))

    def finish(self, patience: float) -> None:
        """Waits for the end of the stream."""
        self.join(patience)
        expect(not self.is_alive(), f"the stream has not ended after {patience:g} s")
        expect(self._curl.wait() == 0, f"curl fails: {b''.join(self.lines[-1:]).decode().strip()}")

    def _leave(self) -> None:
        self._curl.kill()
        self._curl.wait()
        self.join()
        if self._curl.stdout:
            self._curl.stdout.close()


def events(bench: Bench, count: int, interval: float) -> None:
    """Every event comes when its time has come, as without the pair, and the stream is whole."""
    server = EventServer(bench.lab.server)
    bench.undo(server.process.close)
    url = server.url(count, interval, bench.family)
    with bonding(bench, 1):
        bonded, plain = EventReader(bench, url, "lan"), EventReader(bench, url, "guest")
        for reader in (bonded, plain):
            reader.finish(count * interval + PATIENCE)
    *stream, end, last, empty = bonded.lines
    equal("the end of the stream", (end, empty), (b"event: end\n", b"\n"))
    equal("the SHA-256 of the stream", hashlib.sha256(b"".join(stream)).hexdigest(), last.split()[1].decode())
    equal("the number of events", len(bonded.late), count)
    added = statistics.median(bonded.late) - statistics.median(plain.late)
    expect(added < HELD_BACK, f"half of the events come {added * 1000:.1f} ms later than without the pair")
    # One that waits for the next one to push it on would come an interval later.
    expect(max(bonded.late) < max(plain.late) + interval / 2, f"an event came {max(bonded.late) * 1000:.0f} ms late")


@row("13h", "a stream of events, each when its time has come")
def event_stream(bench: Bench) -> None:
    events(bench, 20, 0.15)


@row("13i", "a stream of events that lasts for a minute", slow=True)
def long_event_stream(bench: Bench) -> None:
    events(bench, 82, 0.75)
