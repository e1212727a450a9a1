# SPDX-License-Identifier: GPL-2.0-or-later
"""The package's scripts in busybox's shell, which is OpenWrt's, with a stub in the place of OpenWrt (openwrt.sh).

What procd, netifd and fw4 make of what is asked of them is not seen here.
"""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ctl import hybridctl

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
FILES = CHECKOUT / "openwrt/hybrid-access/files"
SCRIPTS = sorted([*FILES.glob("*.init"), *FILES.glob("*.hotplug"), *FILES.glob("*.defaults"), HERE / "openwrt.sh"])

needs_busybox = pytest.mark.skipif(shutil.which("busybox") is None, reason="the program 'busybox' is not installed")
needs_shellcheck = pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="the program 'shellcheck' is not installed"
)

CPE = """\
config cpe 'cpe'
	list lan 'br-lan'
	list lan_interface 'home'
	list lan_interface 'guest'
config link 'xdsl'
	option interface 'wan'
	option role 'primary'
config link 'lte'
	option interface 'modem'
	option role 'secondary'
"""
HAG = """\
config hag
	list access 'eth1'
	option join_device 'eth2'
	list subscriber '192.0.2.0/24'
	option drain '600'
"""


def instance(role: str, term_timeout: int, files: int) -> list[str]:
    return [
        f"procd_open_instance {role}",
        f"procd_set_param command /usr/sbin/hybrid-{role} --wait --log-to syslog",
        "procd_set_param respawn 60 1 5",
        f"procd_set_param term_timeout {term_timeout}",
        f"procd_set_param limits nofile={files} {files} core=0",
        "procd_set_param stdout 1",
        "procd_set_param stderr 1",
        "procd_close_instance",
    ]


CPE_INSTANCE = instance("cpe", 45, 16384)
HAG_INSTANCE = instance("hag", 615, 262144)


def service(*instances: list[str]) -> list[str]:
    between = [line for one in instances for line in one]
    return ["procd_open_service", *between, "procd_add_reload_trigger hybridaccess", "procd_close_service"]


@dataclass
class Router:
    """Its files are in a directory of the test's, its programs write down how they are called."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.directory / "etc/config").mkdir(parents=True)
        (self.directory / "run").mkdir()
        self.programs.mkdir()
        for name in ("logger", "ubus", "fw4"):
            self.program(name, f'echo "{name} $*" >>"$RECORD"')
        self.program("sleep", "exit")
        self.program("nft", 'exit "${NFT:-0}"')
        check = '[ -z "$WRONG" ] || { echo "$WRONG" >&2; exit 1; }; exit'
        reload = 'echo "hybridctl $*" >>"$RECORD"; [ -z "$REFUSED" ] || { echo "hybridctl: $REFUSED" >&2; exit 1; }'
        self.program("hybridctl", f'if [ "$1" = check ]; then {check}; fi; {reload}')

    @property
    def programs(self) -> Path:
        return self.directory / "bin"

    @property
    def config(self) -> Path:
        return self.directory / "etc/config/hybridaccess"

    @property
    def control_socket(self) -> Path:
        return self.directory / "run/cpe.sock"

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, file: str, *arguments: str, **environment: str) -> list[str]:
        """What the script has asked for. Only the places of files are other ones."""
        script, record = self.directory / file, self.directory / "record"
        text = (FILES / file).read_text().replace("/etc/config/hybridaccess", str(self.config))
        text = text.replace("/var/run/hybrid-access", str(self.directory / "run"))
        script.write_text(
            text.replace("/usr/sbin", str(self.programs)).replace(f'command "{self.programs}', 'command "/usr/sbin')
        )
        record.write_text("")
        given = {"PATH": f"{self.programs}:{os.environ['PATH']}", "RECORD": str(record), "UCI": str(self.config.parent)}
        command = ["busybox", "ash", "-u", str(HERE / "openwrt.sh"), str(script), *arguments]
        unset = {"RUNNING": "", "REFUSED": "", "WRONG": "", "USE_PROCD": ""}
        done = subprocess.run(
            command, env={**unset, **given, **environment}, capture_output=True, text=True, check=False
        )
        self.status, self.said = done.returncode, done.stderr.splitlines()
        return record.read_text().splitlines()

    def init(self, action: str, text: str | None = None, **environment: str) -> list[str]:
        """The init script with that configuration."""
        if text is not None:
            self.config.write_text(text)
        return self.run("hybrid-access.init", action, **environment)


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(tmp_path)


def logged(level: str, *lines: str) -> list[str]:
    return [f"logger -t hybrid-access -p daemon.{level} {line}" for line in lines]


@needs_busybox
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_busybox_can_read_it(script: Path) -> None:
    subprocess.run(["busybox", "ash", "-n", script], check=True)


@needs_shellcheck
def test_shellcheck_finds_nothing() -> None:
    command = ["shellcheck", "--shell=dash", "--exclude=SC3043", *map(str, SCRIPTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""


@needs_busybox
def test_an_instance_for_each_role_that_the_configuration_has(router: Router) -> None:
    assert router.init("start", CPE) == service(CPE_INSTANCE)
    assert router.init("start", HAG) == service(HAG_INSTANCE)
    assert router.init("start", CPE + HAG) == service(CPE_INSTANCE, HAG_INSTANCE)
    assert router.said == []


@needs_busybox
def test_the_file_that_comes_with_the_package_starts_nothing(router: Router) -> None:
    text = (FILES / "hybridaccess.config").read_text()
    why = f"nothing is configured in {router.config}"
    first, *rest = router.init("start", text)
    assert [first, *rest[1:]] == service()
    assert rest[:1] == logged("info", why)
    router.config.unlink()
    assert logged("info", why)[0] in router.init("start")


def test_its_example_is_right(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    text = (FILES / "hybridaccess.config").read_text()
    example = "\n".join(line[1:] for line in text.splitlines() if line.startswith(("#config", "#\t")))
    router.config.write_text(example)
    assert hybridctl.main(["check", str(router.config)]) == 0
    assert capsys.readouterr().out == f"{router.config}: ok: cpe with links xdsl (primary), lte (secondary)\n"


COMPLAINTS = (
    "/etc/config/hybridaccess:7: link 'xdsl', option 'role': 'primry' is not one of: primary, secondary",
    "/etc/config/hybridaccess:8: link 'lte': option 'device' is missing",
)
WRONG = "\n".join(COMPLAINTS)


@needs_busybox
def test_a_wrong_file_starts_nothing_and_says_why(router: Router) -> None:
    record = router.init("start", CPE, WRONG=WRONG)
    assert record == ["procd_open_service", *logged("err", *COMPLAINTS), *service()[1:]]
    assert router.said == [*COMPLAINTS]


@pytest.mark.full
@needs_busybox
def test_what_says_so_is_hybridctl(router: Router) -> None:
    code = "import sys; from ctl.hybridctl import main; sys.exit(main())"
    router.program("hybridctl", f"PYTHONPATH={CHECKOUT} exec {sys.executable} -c '{code}' \"$@\"")
    router.init("start", CPE.replace("primary", "primry"))
    (complaint,) = router.said
    assert complaint.startswith(f"{router.config}:7: link 'xdsl', option 'role': ")


@needs_busybox
def test_a_wrong_file_stops_nothing(router: Router) -> None:
    """An empty list of instances would."""
    for action in ("start", "reload"):
        record = router.init(action, CPE, RUNNING="cpe", WRONG=WRONG)
        assert "procd_close_service" not in record
        assert [line for line in record if "hybridctl" in line or "kill" in line] == []
        assert router.status == 1


@needs_busybox
def test_a_changed_file_is_the_daemons_to_read(router: Router) -> None:
    assert router.init("reload", CPE, RUNNING="cpe") == ["hybridctl reload --role cpe", *service(CPE_INSTANCE)]


@needs_busybox
def test_what_a_running_daemon_cannot_change_is_changed_by_a_restart(router: Router) -> None:
    sentence = "cannot change while the daemon runs, restart it: config link"
    assert "cannot change while the daemon runs, restart it: " in (CHECKOUT / "common/service.py").read_text()
    record = router.init("reload", CPE, RUNNING="cpe", REFUSED=sentence)
    notice = logged("notice", f"hybridctl: {sentence}: so it is restarted")
    assert record == ["hybridctl reload --role cpe", *notice, "procd_kill hybrid-access cpe", *service(CPE_INSTANCE)]


@needs_busybox
def test_what_is_not_there_yet_is_no_reason_for_a_restart(router: Router) -> None:
    """It would wait for that, and what it bonds now would not be bonded."""
    sentence = "there is no device 'br-guest' (option 'lan')"
    record = router.init("reload", CPE, RUNNING="cpe", REFUSED=sentence)
    assert record == ["hybridctl reload --role cpe", *logged("err", f"hybridctl: {sentence}"), *service(CPE_INSTANCE)]


@needs_busybox
def test_a_role_that_is_new_and_one_that_has_gone(router: Router) -> None:
    """procd stops the instance that is not named any more."""
    assert router.init("reload", HAG, RUNNING="cpe") == ["hybridctl reload --role cpe", *service(HAG_INSTANCE)]
    assert "procd_close_service" in router.init("reload", "# nothing\n", RUNNING="cpe")


@needs_busybox
def test_what_a_daemon_has_left_that_was_given_up(router: Router) -> None:
    router.program("hybrid-cpe", 'echo "hybrid-cpe $*" >>"$RECORD"')
    assert router.init("stop", CPE) == ["stop"]
    (router.directory / "run/cpe.settings").touch()
    assert router.init("stop") == ["hybrid-cpe --clean --log-to syslog", "stop"]
    assert router.init("stop", RUNNING="cpe") == ["stop"]


@needs_busybox
def test_a_shutdown_does_not_wait_for_connections(router: Router) -> None:
    assert router.init("shutdown", CPE, RUNNING="cpe") == ["procd_send_signal hybrid-access * TERM", "stop"]


def serve(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    return server


SIGHUP = 'ubus call service signal { "name": "hybrid-access", "instance": "cpe", "signal": 1 }'


@needs_busybox
@pytest.mark.parametrize(
    ("action", "interface", "asked"),
    [
        ("ifup", "wan", [SIGHUP]),
        ("ifdown", "modem", [SIGHUP]),
        ("ifupdate", "modem", [SIGHUP]),
        ("ifup", "home", [SIGHUP]),
        ("ifup", "guest", [SIGHUP]),
        ("ifup", "lan", []),
        ("ifup", "wan6", []),
        ("free", "wan", []),
    ],
)
def test_a_network_of_a_link_makes_the_daemon_look_again(
    router: Router, action: str, interface: str, asked: Sequence[str]
) -> None:
    router.config.write_text(CPE)
    with serve(router.control_socket):
        assert router.run("hybrid-access.hotplug", ACTION=action, INTERFACE=interface) == asked


@needs_busybox
def test_a_daemon_that_is_not_ready_is_left_alone(router: Router) -> None:
    router.config.write_text(CPE)
    assert router.run("hybrid-access.hotplug", ACTION="ifup", INTERFACE="wan") == []
    assert router.status == 0


@needs_busybox
def test_a_firewall_that_is_loaded_takes_the_rule_in(router: Router) -> None:
    assert router.run("hybrid-access.defaults") == ["fw4 -q reload"]
    assert router.run("hybrid-access.defaults", NFT="1") == []
    assert router.status == 0
