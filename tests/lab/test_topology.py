# SPDX-License-Identifier: GPL-2.0-or-later
"""Labs come up, connect all that should be connected, and leave nothing behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import record
from lab.access import Kind
from lab.errors import LabError
from lab.netns import RUN_NETNS
from lab.process import python_path
from lab.record import RUN_LABS
from lab.servers import IperfServer, TcpServer, WebServer
from lab.topology import Lab
from lab.transfer import download, upload

pytestmark = pytest.mark.root


def traces(name: str) -> list[str]:
    """What there is of a lab: namespaces, files, processes started for it."""
    files = [str(path) for folder in (RUN_NETNS, RUN_LABS) for path in folder.glob(f"*{name}*")]
    return files + [command for command in command_lines() if name in command]


def command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture(scope="module")
def direct_lab() -> Iterator[Lab]:
    with Lab(Kind.DIRECT) as lab:
        yield lab


@pytest.mark.parametrize("source", ["lan", "guest"])
@pytest.mark.parametrize("family", [4, 6])
def test_client_reaches_server_and_nat_shows(direct_lab: Lab, family: int, source: str) -> None:
    client, server = direct_lab.client, direct_lab.server
    with server.entered():
        listener = socket.create_server(("", 0), family=socket.AF_INET if family == 4 else socket.AF_INET6)
    with listener, client.entered():
        target = (server.address("core", family), listener.getsockname()[1])
        with socket.create_connection(target, 2, source_address=(client.address(source, family), 0)):
            connection, peer = listener.accept()
            connection.close()
    expected = direct_lab.cpe.address("xdsl", 4) if family == 4 else client.address(source, 6)
    assert peer[0] == expected


def test_guest_goes_by_way_of_the_guest_lan(direct_lab: Lab) -> None:
    for family in (4, 6):
        target = direct_lab.server.address("core", family)
        source = direct_lab.client.address("guest", family)
        routed = direct_lab.client.run(["ip", "route", "get", target, "from", source])
        assert " dev guest " in routed.stdout


@pytest.mark.parametrize("family", [4, 6])
def test_web_server_serves_and_takes(direct_lab: Lab, family: int, tmp_path: Path) -> None:
    web = web_server(direct_lab)
    content = web.publish(f"file{family}", 3_000_001, seed=family)
    assert download(direct_lab.client, web.url(content.path, family)).sha256 == content.sha256
    (tmp_path / "up").write_bytes(os.urandom(100_000))
    transfer = upload(direct_lab.client, web.url(f"up{family}", family), tmp_path / "up")
    assert transfer.size == web.uploaded(f"up{family}").size == 100_000


def web_server(lab: Lab, started: dict[str, WebServer] = {}) -> WebServer:  # noqa: B006 (one for the module)
    if lab.name not in started:
        started[lab.name] = WebServer(lab.server)
    return started[lab.name]


def test_same_seed_same_content(direct_lab: Lab) -> None:
    web = web_server(direct_lab)
    first, again, other = (web.publish("seeded", 100_000, seed).sha256 for seed in (1, 1, 2))
    assert first == again != other


def test_missing_file_is_one_sentence(direct_lab: Lab) -> None:
    url = web_server(direct_lab).url("nothing", 4)
    with pytest.raises(LabError, match=r"^http://203.0.113.10/nothing failed: .*404"):
        download(direct_lab.client, url)


def test_iperf_measures_both_ways(direct_lab: Lab) -> None:
    server = IperfServer(direct_lab.server)
    for options in ((), ("--reverse",)):
        report = server.measure(direct_lab.client, 6, "--bytes", "10M", *options)
        assert report["end"]["sum_received"]["bytes"] > 1e6


def test_tcp_server_modes(direct_lab: Lab) -> None:
    ports = {"echo": 7, "sink": 9, "source": 19}
    servers = {mode: TcpServer(direct_lab.server, mode, port) for mode, port in ports.items()}
    answers = {}
    for mode, server in servers.items():
        target = (direct_lab.server.address("core", 4), server.port)
        with direct_lab.client.entered(), socket.create_connection(target, 2) as connection:
            connection.sendall(b"hello")
            if mode != "source":
                connection.shutdown(socket.SHUT_WR)
            answers[mode] = connection.recv(5, socket.MSG_WAITALL)
    assert answers == {"echo": b"hello", "sink": b"", "source": bytes(5)}


def test_failing_command_is_told_with_its_words(direct_lab: Lab) -> None:
    with pytest.raises(LabError, match=r"'ip link show nosuch' ended with status 1: .*does not exist"):
        direct_lab.cpe.run(["ip", "link", "show", "nosuch"])


def test_process_that_ends_early_is_told_with_its_words(direct_lab: Lab) -> None:
    process = direct_lab.cpe.start(["ip", "link", "show", "nosuch"])
    with pytest.raises(LabError, match=r"ip ended with status 1: .*does not exist"):
        process.wait_until(lambda: False)


@pytest.mark.parametrize("kind", list(Kind))
def test_nothing_is_left(kind: Kind) -> None:
    with Lab(kind) as lab:
        WebServer(lab.server)
        stray = subprocess.Popen(["ip", "netns", "exec", lab.cpe.name, "sleep", "60"])
        while stray.pid not in lab.cpe.pids():
            assert stray.poll() is None
        pids = [pid for node in lab.nodes for pid in node.pids()]
        assert len(pids) == 2
        assert len(traces(lab.name)) > 5
    stray.wait()
    assert traces(lab.name) == []
    assert all(map(gone, pids))


def test_nothing_is_left_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), Lab() as lab:
        raise ZeroDivisionError
    assert traces(lab.name) == []


def test_nothing_is_left_of_a_half_built_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    monkeypatch.setattr(lab.lte, "build", lambda: lab.hag.run(["false"]))
    with pytest.raises(LabError, match="'false' ended with status 1"), lab:
        pytest.fail("must not come up")
    assert traces(lab.name) == []


def test_two_labs_side_by_side() -> None:
    with Lab(Kind.DIRECT) as one, Lab(Kind.DIRECT) as other:
        TcpServer(one.server)
        TcpServer(other.server)
    assert traces(one.name) == traces(other.name) == []


SLEEPER = """
from lab.servers import WebServer
from lab.topology import Lab
with Lab() as lab:
    WebServer(lab.server)
    lab.cpe.start(["sleep", "60"])
    print(lab.name, flush=True)
    lab.cpe.run(["sleep", "60"])
"""


@pytest.fixture
def sleeper(interruptible: None) -> Iterator[subprocess.Popen[str]]:
    """A process that has built a lab, told its name, and does nothing with it."""
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **python_path()},
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_nothing_is_left_after_a_signal(sleeper: subprocess.Popen[str], number: int, status: int) -> None:
    assert sleeper.stdout
    name = sleeper.stdout.readline().strip()
    assert traces(name)
    sleeper.send_signal(number)
    assert sleeper.wait(10) == status
    assert traces(name) == []


def test_killed_lab_is_cleaned_up_later(sleeper: subprocess.Popen[str]) -> None:
    assert sleeper.stdout
    name = sleeper.stdout.readline().strip()
    assert name not in record.clean()
    sleeper.kill()
    sleeper.wait()
    assert name in record.clean()
    assert traces(name) == []
