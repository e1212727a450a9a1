# SPDX-License-Identifier: GPL-2.0-or-later
"""The services of the package, from their first start to the package's removal. The order matters: it is one life."""

import os
import re
import signal
from pathlib import Path

import pytest

from lab.connect import answers, connect
from lab.servers import TcpServer
from lab.snapshot import Snapshot, difference, snapshot
from lab.topology import Lab
from machines.inside.service import CONFIGURATION, RUN_DIR, Service, drop_in, other_configuration, run, until

FAMILIES = (4, 6)
ROLES = ("hag", "cpe")
SOON = 20.0  # seconds for what takes at most 10 on a machine that is not emulated


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
    """Whether a new connection carries data, and is bonded on both boxes."""
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
    assert service.show("ActiveState") == "inactive"
    assert service.show("ConditionResult") == "no"


@pytest.mark.parametrize("role", ROLES)
def test_started(before: dict[str, Snapshot], services: dict[str, Service], role: str) -> None:
    """Once systemctl is back it is ready, and says what it does."""
    service = services[role]
    service.systemctl("start")
    assert service.show("ActiveState") == "active"
    assert service.answers()
    assert "bonding connections from" in service.show("StatusText")


@pytest.mark.parametrize("role", ROLES)
def test_it_is_exposed_little(services: dict[str, Service], role: str) -> None:
    done = run("systemd-analyze", "security", "--no-pager", "--threshold=20", services[role].unit)
    assert done.returncode == 0, done.stdout  # 20 is an exposure of 2.0
    status = Path(f"/proc/{services[role].pid}/status").read_text()
    assert re.search(r"^CapEff:\t0000000000003000$", status, re.MULTILINE)  # CAP_NET_ADMIN, CAP_NET_RAW
    assert not re.search(r"^Uid:\t0\t", status, re.MULTILINE)
    assert not os.access(f"/proc/{services[role].pid}/root/etc/config", os.W_OK)  # read-only, for whom root is too


@pytest.mark.parametrize("role", ROLES)
def test_the_queue_is_nfts_own(services: dict[str, Service], role: str) -> None:
    node = services[role].node
    assert "queue flags bypass to" in node.run(["nft", "list", "table", "inet", "hybrid_access"]).stdout
    assert node.run(["iptables", "-w", "-t", "mangle", "-S", "PREROUTING"]).stdout == "-P PREROUTING ACCEPT\n"
    assert "SYNs wait in nft's own queue" in services[role].journal()


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
            service.systemctl("reload")
            assert "the configuration is read again; changed: option log_level" in service.journal()
        with other_configuration("drain '0'", "drian '0'"):
            service.systemctl("reload", check=False)
            assert service.show("ActiveState") == "active"
            assert "the configuration file is not in force: " in service.show("StatusText")
            assert "option 'drian': unknown option (did you mean 'drain'?)" in service.systemctl("status")
        service.systemctl("reload")
        assert "not in force" not in service.show("StatusText")
        assert (service.pid, service.workers()) == (pid, workers)
        answers(connection)


@pytest.mark.parametrize("role", ROLES)
def test_a_worker_that_hangs_is_replaced(lab: Lab, services: dict[str, Service], server: TcpServer, role: str) -> None:
    service = services[role]
    (hung, *_) = service.workers()
    os.kill(hung, signal.SIGSTOP)
    until(lambda: not os.path.exists(f"/proc/{hung}"), SOON)
    until(lambda: bonds(lab, services, server, 4))
    assert hung not in service.workers()


@pytest.mark.parametrize("role", ROLES)
def test_the_journal_has_fields(services: dict[str, Service], role: str) -> None:
    """Of the worker that hung."""
    records = [it for it in services[role].records() if it.get("HYBRID_WORKER") == "0"]
    assert any("hangs" in it["MESSAGE"] and it["PRIORITY"] == "3" for it in records), services[role].journal()


@pytest.mark.parametrize("role", ROLES)
def test_a_daemon_that_hangs_is_replaced(lab: Lab, services: dict[str, Service], server: TcpServer, role: str) -> None:
    service = services[role]
    hung = service.pid
    os.kill(hung, signal.SIGSTOP)
    until(lambda: not os.path.exists(f"/proc/{hung}"), SOON)
    until(service.answers)
    until(lambda: bonds(lab, services, server, 4))


@pytest.mark.parametrize("role", ROLES)
def test_a_daemon_that_is_killed_is_started_again(
    lab: Lab, services: dict[str, Service], server: TcpServer, role: str
) -> None:
    """Its connections live on, for they are its workers'; the first try is enough."""
    service = services[role]
    restarts = int(service.show("NRestarts"))
    connection, _ = connect(lab, 4, server.port)
    with connection:
        answers(connection)
        killed = service.pid
        os.kill(killed, signal.SIGKILL)
        meanwhile, _ = connect(lab, 4, server.port)
        with meanwhile:
            answers(meanwhile)
        until(lambda: service.show("MainPID") not in ("0", str(killed)) and service.answers())
        assert bonds(lab, services, server, 4)
        answers(connection)
    assert int(service.show("NRestarts")) == restarts + 1, service.journal()
    assert "waiting, connections pass unbonded" not in service.journal()


@pytest.mark.parametrize("role", ["cpe", "hag"])
def test_stopped_it_leaves_nothing(
    lab: Lab, services: dict[str, Service], server: TcpServer, before: dict[str, Snapshot], role: str
) -> None:
    service = services[role]
    service.systemctl("stop")
    assert service.show("ActiveState") == "inactive"
    assert service.show("Result") == "success"
    assert left_behind(service, before) == []
    passes(lab, server)


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
        for _ in range(2):
            until(service.answers)
            service.kill()
        until(lambda: service.show("ActiveState") == "failed")
        xdsl.restore()
    assert "Start request repeated too quickly" in service.journal()
    assert "hybrid-" + role + " is not running" in service.asked()
    assert left_behind(service, before) == []
    passes(lab, server)
    service.systemctl("reset-failed")


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
        assert run("modprobe", "-r", "nft_tproxy").returncode == 0
        assert_fails(services["hag"], 71, "the kernel's nftables has no 'tproxy' (CONFIG_NFT_TPROXY")
    finally:
        rule.unlink()


def assert_fails(service: Service, status: int, sentence: str) -> None:
    """It ends, is not tried again, and both who may be asked say why."""
    service.systemctl("start", check=False)
    until(lambda: service.show("ActiveState") == "failed")
    assert service.show("ExecMainStatus") == str(status)
    assert service.show("NRestarts") == "0"
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
        until(lambda: "No space left on device" in service.show("StatusText"))
        assert_waits(service, f"cannot note the settings of now in {RUN_DIR}/cpe.settings: No space left on device")
        full.unlink()
        until(lambda: "bonding connections from" in service.show("StatusText"))
        service.systemctl("stop")
    finally:
        service.systemctl("stop", check=False)
        run("umount", str(RUN_DIR))
    assert left_behind(service, before) == []


def assert_waits(service: Service, sentence: str) -> None:
    assert service.show("ActiveState") == "active"
    assert f"waiting, connections pass unbonded: {sentence}" in service.systemctl("status", "--full")
    assert sentence in service.asked()


def test_without_a_journal(lab: Lab, services: dict[str, Service], server: TcpServer) -> None:
    units = ["systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service"]
    assert run("systemctl", "stop", *units).returncode == 0
    try:
        for service in services.values():
            service.systemctl("start")
            assert "bonding connections from" in service.show("StatusText")
        assert bonds(lab, services, server, 4)
        for service in services.values():
            service.systemctl("stop")
            assert service.show("Result") == "success"
    finally:
        assert run("systemctl", "start", *units).returncode == 0


def test_removed_while_it_runs(services: dict[str, Service], before: dict[str, Snapshot]) -> None:
    for service in services.values():
        service.systemctl("start")
        until(service.answers)
    for verb in ("remove", "purge"):
        done = run("apt-get", verb, "-y", "-q", "hybrid-access")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stdout
    for service in services.values():
        assert left_behind(service, before) == []
    assert not CONFIGURATION.exists()
