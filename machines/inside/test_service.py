# SPDX-License-Identifier: GPL-2.0-or-later
"""The services of the package, from their first start to the package's removal. The order matters: it is one life."""

import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.connect import answers, connect
from lab.servers import TcpServer
from lab.snapshot import Snapshot, difference, snapshot
from lab.topology import Lab
from machines.inside.service import CONFIGURATION, RUN_DIR, Service, drop_in, other_configuration, run, until

FAMILIES = (4, 6)
ROLES = ("hag", "cpe")
REPLACED_WITHIN = 10.0  # seconds, as promised
DRAIN = 20  # seconds, more than the unit's TimeoutStopSec


@pytest.fixture(scope="module")
def server(lab: Lab) -> TcpServer:
    return TcpServer(lab.server, "echo")


@pytest.fixture(scope="module")
def before(lab: Lab, services: dict[str, Service], server: TcpServer) -> dict[str, Snapshot]:
    RUN_DIR.mkdir(exist_ok=True)
    return {role: snapshot(service.node, RUN_DIR) for role, service in services.items()}


def left_behind(service: Service, before: dict[str, Snapshot]) -> list[str]:
    """What is not as it was before; the files of the other role are in the same directory, and no business of ours."""
    RUN_DIR.mkdir(exist_ok=True)
    changes = difference(before[service.role], snapshot(service.node, RUN_DIR))
    return [it for it in changes if not it.startswith("files: ") or f" +{service.role}." in it]


def bonds(lab: Lab, services: dict[str, Service], server: TcpServer, family: int) -> bool:
    """Whether a new connection is bonded on both boxes. LabError if it does not carry data, as each must."""
    count = [service.bonded() for service in services.values()]
    connection, _ = connect(lab, family, server.port)
    with connection:
        answers(connection)
        return [service.bonded() for service in services.values()] == [it + 1 for it in count]


def passes(lab: Lab, server: TcpServer) -> None:
    """New connections of both families come about."""
    for family in FAMILIES:
        connection, _ = connect(lab, family, server.port)
        with connection:
            answers(connection)


@pytest.mark.parametrize("role", ROLES)
def test_without_a_configuration_it_is_not_started(role: str) -> None:
    service = Service(role, None)  # type: ignore[arg-type]
    assert not CONFIGURATION.exists()
    assert service.systemctl("is-enabled", check=False) == "disabled"
    service.systemctl("start")
    assert service.show("ActiveState", "ConditionResult") == {"ActiveState": "inactive", "ConditionResult": "no"}


@pytest.mark.parametrize("role", ROLES)
def test_started(before: dict[str, Snapshot], services: dict[str, Service], role: str) -> None:
    """Once systemctl is back it is ready, and says what it does."""
    service = services[role]
    service.systemctl("start")
    assert service.active() == "active"
    assert service.answers()
    assert "bonding connections from" in service.told()


@pytest.mark.parametrize("role", ROLES)
def test_it_is_exposed_little(services: dict[str, Service], role: str) -> None:
    done = run("systemd-analyze", "security", "--no-pager", "--threshold=20", services[role].unit)
    assert done.returncode == 0, done.stdout  # 20 is an exposure of 2.0
    pid = services[role].pid
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^CapEff:\t0000000000003000$", status, re.MULTILINE)  # CAP_NET_ADMIN, CAP_NET_RAW
    assert not re.search(r"^Uid:\t0\t", status, re.MULTILINE)
    assert not os.access(f"/proc/{pid}/root/etc/config", os.W_OK)  # read-only, for whom root is too


@pytest.mark.parametrize("role", ROLES)
def test_the_queue_is_nfts_own(services: dict[str, Service], role: str) -> None:
    node = services[role].node
    assert "queue flags bypass to" in node.run(["nft", "list", "table", "inet", "hybrid_access"]).stdout
    assert node.run(["iptables", "-w", "-t", "mangle", "-S", "PREROUTING"]).stdout == "-P PREROUTING ACCEPT\n"
    assert "SYNs wait in nft's own queue" in services[role].journal()


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_missing(services: dict[str, Service], role: str) -> None:
    """By `hybridctl doctor`, but what the other role alone has, which the file configures too."""
    done = services[role].node.run(["hybridctl", "doctor", "--local", "--json"], check=False)
    said = json.loads(done.stdout)
    missing = [it["what"] for it in said["findings"] if it["needed"] and it["found"] is False]
    assert missing == {"hag": ["device lan"], "cpe": []}[role], said
    assert said["ok"] == (not missing)
    assert any(it["what"] == "netfilter queue" and it["found"] for it in said["findings"])


@pytest.mark.parametrize("family", FAMILIES)
def test_connections_are_bonded(lab: Lab, services: dict[str, Service], server: TcpServer, family: int) -> None:
    assert bonds(lab, services, server, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_over_both_links(lab: Lab, services: dict[str, Service], server: TcpServer, family: int) -> None:
    connection, _ = connect(lab, family, server.port)
    with connection:
        answers(connection, 200_000)
        until(lambda: "xdsl+lte" in run("hybridctl", "flows", "--role", "cpe").stdout)


@pytest.mark.parametrize("role", ROLES)
def test_reload(lab: Lab, services: dict[str, Service], server: TcpServer, role: str) -> None:
    """What is right comes into force, of what is wrong nothing; who is connected notices neither."""
    service = services[role]
    connection, _ = connect(lab, 4, server.port)
    with connection:
        answers(connection)
        pid, workers = service.pid, service.workers()
        with other_configuration("drain '0'", "drain '0'\n\toption log_level 'debug'"):
            place = service.place()
            service.systemctl("reload")
            assert "the configuration is read again; changed: option log_level" in service.journal(place)
            assert bonds(lab, services, server, 4)  # of which there are records now
        with other_configuration("drain '0'", "drian '0'"):
            service.systemctl("reload", check=False)
            shown = service.show("ActiveState", "StatusText")
            assert shown["ActiveState"] == "active"
            assert "the configuration file is not in force: " in shown["StatusText"]
            assert "option 'drian': unknown option (did you mean 'drain'?)" in service.systemctl("status")
        service.systemctl("reload")
        assert "not in force" not in service.told()
        assert (service.pid, service.workers()) == (pid, workers)
        answers(connection)


@pytest.mark.parametrize("role", ROLES)
def test_a_worker_that_hangs_is_replaced(
    lab: Lab, services: dict[str, Service], server: TcpServer, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    """Meanwhile, once it is noticed, connections pass."""
    service = services[role]
    hung, place, start = service.workers()[0], service.place(), time.monotonic()
    os.kill(hung, signal.SIGSTOP)
    # Not before: a SYN that gets no answer would have the router avoid Multipath TCP to this server for a while.
    noticed = until(lambda: "does not answer: its connections pass" in service.journal(place), poll=0.1)
    passes(lab, server)
    assert os.path.exists(f"/proc/{hung}")
    until(lambda: not os.path.exists(f"/proc/{hung}"), poll=0.1)
    gone = time.monotonic() - start
    with capsys.disabled():
        print(f"\nthe {role}'s hung worker was noticed after {noticed:.1f} s, and gone after {gone:.1f} s")
    assert gone < REPLACED_WITHIN
    until(lambda: bonds(lab, services, server, 4))
    assert hung not in service.workers()


@pytest.mark.parametrize("role", ROLES)
def test_the_journal_has_fields(lab: Lab, services: dict[str, Service], server: TcpServer, role: str) -> None:
    """Of the worker that hung, and of a connection when all was logged."""
    records = services[role].records()
    of_worker = [it for it in records if it.get("HYBRID_WORKER") == "0"]
    assert any("hangs" in it["MESSAGE"] and it["PRIORITY"] == "3" for it in of_worker), services[role].journal()
    assert any(it.get("HYBRID_REASON") == "killed by SIGABRT" for it in of_worker), services[role].journal()
    ends = f" to {lab.server.address('core', 4)} port {server.port}"
    flows = [it for it in records if it.get("HYBRID_FLOW", "").endswith(ends)]
    assert any(it["MESSAGE"].endswith(it["HYBRID_FLOW"]) for it in flows), services[role].journal()


@pytest.mark.parametrize("role", ROLES)
def test_a_daemon_that_hangs_is_replaced(
    lab: Lab, services: dict[str, Service], server: TcpServer, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    service = services[role]
    hung = service.pid
    os.kill(hung, signal.SIGSTOP)
    gone = until(lambda: not os.path.exists(f"/proc/{hung}"), REPLACED_WITHIN, poll=0.1)
    again = until(service.answers)
    with capsys.disabled():
        print(f"\nthe {role}'s hung daemon was gone after {gone:.1f} s, the next one answered after {again:.1f} s more")
    until(lambda: bonds(lab, services, server, 4))


@pytest.mark.parametrize("role", ROLES)
def test_a_daemon_that_is_killed_is_started_again(
    lab: Lab, services: dict[str, Service], server: TcpServer, role: str
) -> None:
    """Its connections live on, for they are its workers'; the first try is enough."""
    service = services[role]
    restarts, place = int(service.show("NRestarts")["NRestarts"]), service.place()
    connection, _ = connect(lab, 4, server.port)
    with connection:
        answers(connection)
        killed = service.pid
        os.kill(killed, signal.SIGKILL)
        meanwhile, _ = connect(lab, 4, server.port)
        with meanwhile:
            answers(meanwhile)
        until(lambda: service.show("MainPID")["MainPID"] not in ("0", str(killed)) and service.answers())
        assert bonds(lab, services, server, 4)
        answers(connection)
    told = service.journal(place)
    assert int(service.show("NRestarts")["NRestarts"]) == restarts + 1, told
    assert "bonding connections from" in told
    assert "waiting, connections pass unbonded" not in told


@pytest.mark.parametrize("role", ["cpe", "hag"])
def test_stopped_it_leaves_nothing(
    lab: Lab, services: dict[str, Service], server: TcpServer, before: dict[str, Snapshot], role: str
) -> None:
    service = services[role]
    if role == "cpe":
        assert_drains(lab, service, server)
    else:
        service.systemctl("stop")
    assert service.show("ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert left_behind(service, before) == []
    passes(lab, server)


def assert_drains(lab: Lab, service: Service, server: TcpServer) -> None:
    """Stopped, it waits for who is connected as long as it is configured to, although its unit waits for less."""
    stop_within = "[Service]\nTimeoutStopSec=15\n"  # as shipped
    assert stop_within.splitlines()[1] in Path(f"/usr/lib/systemd/system/{service.unit}").read_text().splitlines()
    with other_configuration("drain '0'", f"drain '{DRAIN}'"), drop_in(service, stop_within):
        service.systemctl("reload")
        connection, _ = connect(lab, 4, server.port)
        with connection, ThreadPoolExecutor(1) as systemctl:
            answers(connection)
            start = time.monotonic()
            stopped = systemctl.submit(service.systemctl, "stop")
            time.sleep(DRAIN / 2)
            answers(connection)
            stopped.result()
            assert time.monotonic() - start >= DRAIN
            with pytest.raises(ConnectionResetError):
                answers(connection)


# What is wrong: it is said, and traffic goes on


@pytest.mark.parametrize("role", ROLES)
def test_after_the_last_try_the_box_is_a_plain_router(
    lab: Lab, services: dict[str, Service], server: TcpServer, before: dict[str, Snapshot], role: str
) -> None:
    """Also one that had everything go over LTE when it was killed."""
    service, xdsl = services[role], lab.accesses[0]
    with drop_in(service, "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n"):
        service.systemctl("reset-failed", check=False)  # its starts so far count no more
        service.systemctl("start")
        if role == "cpe":
            xdsl.cut()
            until(lambda: "\n488:" in service.node.run(["ip", "rule"]).stdout)
            until(lambda: any(it["MESSAGE"].startswith("link xdsl is down: ") for it in about_xdsl(service)))
        for _ in range(2):
            until(service.answers)
            service.kill()
        until(lambda: service.active() == "failed")
        xdsl.restore()
    assert "Start request repeated too quickly" in service.journal()
    assert "hybrid-" + role + " is not running" in service.asked()
    assert left_behind(service, before) == []
    passes(lab, server)
    service.systemctl("reset-failed")


def about_xdsl(service: Service) -> list[dict[str, str]]:
    """Records with reasons."""
    return [it for it in service.records() if it.get("HYBRID_LINK") == "xdsl" and it.get("HYBRID_REASON")]


def test_a_wrong_configuration_is_said_and_not_tried_again(services: dict[str, Service]) -> None:
    service, sentence = services["cpe"], "'primry' is not one of: primary, secondary"
    with other_configuration("'primary'", "'primry'"):
        assert_fails(service, 78, sentence)


def test_half_a_configuration(services: dict[str, Service]) -> None:
    """Whose disk was full, perhaps."""
    right = CONFIGURATION.read_text()
    with other_configuration(right, right[: right.index("'secondary'") + 5]):
        assert_fails(services["cpe"], 78, str(CONFIGURATION))


def test_a_module_that_the_kernel_lacks(services: dict[str, Service]) -> None:
    rule = Path("/etc/modprobe.d/lacks.conf")
    rule.write_text("install nft_tproxy /bin/false\n")
    try:
        until(lambda: run("modprobe", "-r", "nft_tproxy").returncode == 0)  # nft lets go of it a while later
        assert_fails(services["hag"], 71, "the kernel's nftables has no 'tproxy' (CONFIG_NFT_TPROXY")
    finally:
        rule.unlink()


def assert_fails(service: Service, status: int, sentence: str) -> None:
    """It ends, is not tried again, and both who may be asked say why."""
    service.systemctl("start", check=False)
    until(lambda: service.active() == "failed")
    assert service.show("ExecMainStatus", "NRestarts") == {"ExecMainStatus": str(status), "NRestarts": "0"}
    assert sentence in service.systemctl("status", "--full", check=False)
    assert sentence in service.asked()
    service.systemctl("reset-failed")


def test_what_may_come_by_itself_is_waited_for(
    lab: Lab, services: dict[str, Service], server: TcpServer, before: dict[str, Snapshot]
) -> None:
    """An interface that nobody knows; a disk that is full, in the end."""
    service = services["cpe"]
    full = RUN_DIR / "full"
    RUN_DIR.mkdir(exist_ok=True)
    assert run("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(RUN_DIR)).returncode == 0
    try:
        full.write_bytes(bytes(1 << 16))
        with other_configuration("lan 'lan'", "lan 'nosuch'"):
            service.systemctl("start")
            assert_waits(service, "there is no device 'nosuch' (option 'lan')")
            passes(lab, server)
        until(lambda: "No space left on device" in service.told())
        assert_waits(service, f"cannot note the settings of now in {RUN_DIR}/cpe.settings: No space left on device")
        full.unlink()
        until(lambda: "bonding connections from" in service.told())
        service.systemctl("stop")
    finally:
        service.systemctl("stop", check=False)
        run("umount", str(RUN_DIR))
    assert left_behind(service, before) == []


def assert_waits(service: Service, sentence: str) -> None:
    assert service.active() == "active"
    assert f"waiting, connections pass unbonded: {sentence}" in service.systemctl("status", "--full")
    assert sentence in service.asked()


def test_without_a_journal(lab: Lab, services: dict[str, Service], server: TcpServer) -> None:
    kinds = (".socket", "-dev-log.socket", "-audit.socket", ".service")
    units = [f"systemd-journald{kind}" for kind in kinds]
    # whatever starts wants it, and would bring it back
    assert run("systemctl", "mask", "--runtime", *units).returncode == 0
    try:
        assert run("systemctl", "stop", *units).returncode == 0
        for service in services.values():
            service.systemctl("start")
            assert "bonding connections from" in service.told()
        assert bonds(lab, services, server, 4)
        assert run("systemctl", "is-active", *units).stdout.split() == ["inactive"] * len(units)
        for service in services.values():
            service.systemctl("stop")
            assert service.show("Result") == {"Result": "success"}
    finally:
        run("systemctl", "unmask", "--runtime", *units)
        assert run("systemctl", "start", *units).returncode == 0


def test_removed_while_it_runs(services: dict[str, Service], before: dict[str, Snapshot]) -> None:
    for service in services.values():
        service.systemctl("start")
        until(service.answers)
    for verb in ("remove", "purge"):
        done = run("apt-get", verb, "-y", "-q", "hybrid-access")
        said = done.stdout + done.stderr  # dpkg warns on the latter
        assert done.returncode == 0, said
        assert "warning" not in said.lower()
    for service in services.values():
        assert left_behind(service, before) == []
    assert not CONFIGURATION.exists()
