# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration that a lab writes for the daemons, and what is told of a daemon that does not come up."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import load
from lab import daemons
from lab.access import Kind
from lab.daemons import Daemon, Options, cpe_daemon, hag_daemon
from lab.errors import LabError
from lab.node import Node
from lab.topology import Lab

CPE = """\
config cpe 'cpe'
	list lan 'lan'
	list lan 'guest'
	option steering 'always'
	option drain '0'
	option workers '2'

config link 'xdsl'
	option device 'xdsl'
	option role 'primary'
	option rate_down '20000kbit'
	option rate_up '5000kbit'

config link 'lte'
	option device 'lte'
	option role 'secondary'
	option rate_down '30000kbit'
	option rate_up '10000kbit'

config bypass
	list dport '5060'
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab that is not built, with its files here."""
    monkeypatch.setattr("lab.topology.RUN_LABS", tmp_path)
    lab = Lab()
    for node in lab.nodes:
        node.directory.mkdir(parents=True)
    return lab


def test_cpe_configuration(lab: Lab) -> None:
    options: Options = {"lan": ["lan", "guest"], "workers": 2}
    daemon = cpe_daemon(lab, options, more="config bypass\n\tlist dport '5060'\n")
    assert daemon.config_file.read_text() == CPE
    assert load(daemon.config_file).cpe


def test_hag_configuration(lab: Lab) -> None:
    assert load(hag_daemon(lab).config_file).hag


def test_direct_access_tells_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.topology.RUN_LABS", tmp_path)
    assert daemons.link_section(Lab(Kind.DIRECT).lte, "secondary") == (
        "config link 'lte'\n\toption device 'lte'\n\toption role 'secondary'\n"
    )


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon("cpe", Node("test", "cpe", tmp_path), "config cpe\n")


@pytest.fixture
def answers(daemon: Daemon) -> Iterator[list[str]]:
    """Somebody behind the control socket, who gives these answers in turn."""
    given: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(daemon.socket_path)
        listener.listen()

        def serve() -> None:
            while True:
                with listener.accept()[0] as connection, connection.makefile() as lines:
                    request = lines.readline()
                    if not request:
                        return
                    connection.sendall(given.pop(0).replace("REQUEST", request.strip()).encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield given
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(daemon.socket_path)
        thread.join()


def test_control(daemon: Daemon, answers: list[str]) -> None:
    answers += ['{"ok": true, "result": REQUEST}\n', '{"ok": false, "error": "no such link"}\n', ""]
    assert daemon.control("links", name="xdsl") == {"command": "links", "name": "xdsl"}
    with pytest.raises(LabError, match="hybrid-cpe refused 'links': no such link"):
        daemon.control("links")
    assert not daemon.answers()


def test_nobody_answers(daemon: Daemon) -> None:
    assert not daemon.answers()
    with pytest.raises(LabError, match="hybrid-cpe was not started"):
        daemon.stop()


# Stands in for a daemon: what the lab needs of one, and nothing else.
ACTOR = """
import json, os, signal, socket, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print(json.dumps(arguments), file=sys.stderr, flush=True)
if "fail" in open(arguments["--config"]).read():
    sys.exit("hybrid-cpe: no such option")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
path = arguments["--run-dir"] + "/cpe.sock"
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
while True:
    with listener.accept()[0] as connection:
        connection.recv(1000)
        connection.sendall(b'{"ok": true, "result": {"pid": %d}}\\n' % os.getpid())
"""


@pytest.mark.root
def test_life_of_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "cpe"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(ACTOR)
    monkeypatch.setattr(daemons, "python_path", lambda: {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"})
    with Lab(Kind.DIRECT) as lab:
        daemon = cpe_daemon(lab, log_level="debug")
        daemon.start()
        first = daemon.status()["pid"]
        assert first == daemon.process.pid
        assert first in lab.cpe.pids()
        told = json.loads(daemon.log.splitlines()[0])
        assert told == {
            "--config": str(daemon.config_file),
            "--run-dir": str(daemon.run_dir),
            "--log-level": "debug",
        }
        daemon.restart()
        second = daemon.status()["pid"]
        assert second != first
        assert daemon.kill() == -9
        assert not daemon.answers()
        daemon.start()
        assert daemon.stop() == 0
        daemon.configure("fail")
        with pytest.raises(LabError, match=r"(?s)hybrid-cpe ended with status 1: .*: no such option$"):
            daemon.start()
        assert len(daemon.log.splitlines()) == 5
