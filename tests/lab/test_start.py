# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that cannot start says why in one sentence, ends with the status of its kind, and leaves nothing behind."""

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from common.nfqueue import Queue
from ctl.inquiry import Absent, ask
from lab.access import Kind
from lab.daemons import Daemon, Options, cpe_daemon, hag_daemon
from lab.node import Node
from lab.snapshot import Snapshot, difference, snapshot
from lab.topology import Lab
from tests.lab import neighbours
from tests.lab.starts import Ended, background, to_the_end

pytestmark = pytest.mark.root

ROLES = ("cpe", "hag")
USAGE, UNAVAILABLE, SYSTEM, CONFIG = 64, 69, 71, 78
PORT_TAKEN = "port {} on the loopback address is taken by another program (option 'listen_port' names another)"
FIRST = {"cpe": 4800, "hag": 4900}  # queue and port of the first worker


@pytest.fixture(scope="module")
def lab(lab_obstacle: str) -> Iterator[Lab]:
    """With what other people have on the boxes, and on the CPE an Ethernet device without and one with an address."""
    if lab_obstacle:
        pytest.skip(lab_obstacle)
    with Lab(Kind.DIRECT) as lab:
        for node in (lab.cpe, lab.hag):
            neighbours.move_in(node)
            node.configure(
                [
                    "link add bare type bridge",
                    "link set bare addrgenmode none",
                    "link add routeless type bridge",
                    "link set routeless up addrgenmode none",
                    "address add 198.51.100.130/26 dev routeless",
                ]
            )
        yield lab


@pytest.fixture(scope="module")
def before(lab: Lab) -> dict[str, Snapshot]:
    """The boxes before any daemon was there."""
    return {role: look(make(lab, role)) for role in ROLES}


def make(lab: Lab, role: str, options: Options | None = None) -> Daemon:
    return (cpe_daemon if role == "cpe" else hag_daemon)(lab, options or {})


def look(daemon: Daemon) -> Snapshot:
    return snapshot(daemon.node, daemon.run_dir)


@pytest.fixture
def fails(lab: Lab, before: dict[str, Snapshot]) -> Callable[..., str]:
    """Starts a daemon, expects that it fails as it should, and gives the sentence."""

    def start(
        daemon: Daemon,
        status: int = SYSTEM,
        *,
        prefix: Sequence[str] = (),
        arguments: Sequence[str] = (),
        meanwhile: AbstractContextManager[object] | None = None,
    ) -> str:
        with meanwhile or contextlib.nullcontext():
            ended = to_the_end(daemon, prefix, arguments)
        assert ended.status == status, ended.text
        assert difference(before[daemon.role], look(daemon)) == []
        (sentence,) = ended.errors
        return sentence

    return start


Fails = Callable[..., str]


# The configuration


def test_wrong_option(lab: Lab, fails: Fails) -> None:
    daemon = make(lab, "cpe", {"max_flow": 5})
    lines = daemon.config_file.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if "max_flow" in text)
    assert fails(daemon, CONFIG) == (
        f"{daemon.config_file}:{line}: cpe 'cpe', option 'max_flow': unknown option (did you mean 'max_flows'?)"
    )


@pytest.mark.parametrize("role", ROLES)
def test_no_section_for_the_role(lab: Lab, fails: Fails, role: str) -> None:
    (other,) = set(ROLES) - {role}
    text = make(lab, other).config_file.read_text()
    daemon = make(lab, role)
    daemon.configure(text)
    assert fails(daemon, CONFIG) == (
        f"{daemon.config_file}: no 'config {role}' section: this box is not configured as {role.upper()}"
    )


def test_no_configuration(lab: Lab, fails: Fails) -> None:
    daemon = make(lab, "cpe")
    daemon.config_file.unlink()
    assert str(daemon.config_file) in fails(daemon, CONFIG)


def test_wrong_command_line(lab: Lab, before: dict[str, Snapshot]) -> None:
    daemon = make(lab, "cpe")
    ended = to_the_end(daemon, arguments=["--run-directory", "/tmp"])
    assert ended.status == USAGE
    assert ended.text.splitlines()[-1] == "hybrid-cpe: error: unrecognized arguments: --run-directory /tmp"
    assert difference(before["cpe"], look(daemon)) == []


# Privilege


@pytest.mark.parametrize(
    ("role", "capabilities", "missing"),
    [
        ("cpe", "-all", "CAP_NET_ADMIN and CAP_NET_RAW"),
        ("hag", "-all,+net_admin", "CAP_NET_RAW"),
        ("hag", "-all,+net_raw", "CAP_NET_ADMIN"),
    ],
)
def test_missing_capabilities(lab: Lab, fails: Fails, role: str, capabilities: str, missing: str) -> None:
    sentence = fails(make(lab, role), prefix=bounded(capabilities))
    assert sentence == f"{missing} missing: start as root, or with these capabilities"


@pytest.mark.parametrize("role", ROLES)
def test_two_capabilities_are_enough(lab: Lab, before: dict[str, Snapshot], role: str) -> None:
    daemon = make(lab, role)
    process = background(daemon, bounded("-all,+net_admin,+net_raw"))
    process.wait_until(daemon.answers)
    assert process.stop() == 0
    assert difference(before[role], look(daemon)) == []


def bounded(capabilities: str) -> list[str]:
    return ["setpriv", f"--bounding-set={capabilities}", "--inh-caps=-all", "--"]


# The kernel's settings


@pytest.mark.parametrize("role", ROLES)
def test_mptcp_switched_off(lab: Lab, fails: Fails, role: str) -> None:
    daemon = make(lab, role)
    sentence = fails(daemon, meanwhile=switched_off(daemon.node))
    assert sentence == "Multipath TCP is switched off: set the sysctl net.mptcp.enabled to 1"


@contextlib.contextmanager
def switched_off(node: Node) -> Iterator[None]:
    node.sysctl({"mptcp/enabled": 0})
    yield
    node.sysctl({"mptcp/enabled": 1})


@pytest.mark.parametrize(
    ("role", "setting"),
    [("cpe", "net.ipv4.tcp_tw_reuse to 1"), ("hag", "net.mptcp.pm_type to 0")],
)
def test_settings_that_cannot_be_changed(lab: Lab, fails: Fails, role: str, setting: str) -> None:
    prefix = privately("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys")
    assert fails(make(lab, role), prefix=prefix) == f"cannot set {setting}: Read-only file system"


# Devices


@pytest.mark.parametrize(
    ("role", "options", "sentence"),
    [
        ("cpe", {"lan": ["lan", "nosuch"]}, "there is no device 'nosuch' (option 'lan')"),
        ("hag", {"access": ["nosuch"]}, "there is no device 'nosuch' (option 'access')"),
        ("hag", {"join_device": "nosuch"}, "there is no device 'nosuch' (option 'join_device')"),
        ("hag", {"join_device": "bare"}, "device 'bare' (option 'join_device') has no address to announce"),
    ],
)
def test_devices_of_options(lab: Lab, fails: Fails, role: str, options: Options, sentence: str) -> None:
    assert fails(make(lab, role, options), UNAVAILABLE) == sentence


@pytest.mark.parametrize(
    ("link", "device", "why"),
    [
        ("lte", "nosuch", "there is no device 'nosuch'"),
        ("xdsl", "bare", "'bare' is switched off"),
        ("lte", "routeless", "'routeless' has no default route for its addresses"),
    ],
)
def test_links_that_are_not_there_are_waited_for(lab: Lab, link: str, device: str, why: str) -> None:
    daemon = make(lab, "cpe")
    text = daemon.config_file.read_text()
    daemon.configure(text.replace(f"option device '{link}'", f"option device '{device}'"))
    daemon.start()
    states = {one["name"]: one["reason"] for one in daemon.status()["links"]}
    assert states == {"xdsl": None, "lte": None} | {link: why}
    assert f"WARNING: link {link} is down: {why}\n" in daemon.log
    assert daemon.stop() == 0


# What others have taken


@pytest.mark.parametrize(("address", "worker"), [("127.0.0.1", 0), ("::1", 1)])
@pytest.mark.parametrize("role", ROLES)
def test_port_taken(lab: Lab, fails: Fails, role: str, address: str, worker: int) -> None:
    """The second worker's too: the first one runs already when that is found out."""
    daemon, port = make(lab, role, {"workers": 2}), FIRST[role] + worker
    assert fails(daemon, UNAVAILABLE, meanwhile=listener(daemon.node, address, port)) == PORT_TAKEN.format(port)


@pytest.mark.parametrize(("role", "worker"), [("hag", 0), ("cpe", 1)])
def test_queue_taken(lab: Lab, fails: Fails, role: str, worker: int) -> None:
    daemon, number = make(lab, role, {"workers": 2}), FIRST[role] + worker
    with daemon.node.entered():
        queue = Queue(number)
    assert fails(daemon, UNAVAILABLE, meanwhile=contextlib.closing(queue)) == (
        f"netfilter queue {number} is taken by another program (option 'queue' names another)"
    )


@pytest.mark.parametrize("family", [4, 6])
def test_join_port_taken(lab: Lab, fails: Fails, family: int) -> None:
    """The IPv6 one too: the IPv4 address is announced already when that is found out."""
    daemon, address = make(lab, "hag"), lab.hag.address("lte", family)
    assert fails(daemon, UNAVAILABLE, meanwhile=listener(lab.hag, address, 9001)) == (
        f"the kernel does not listen for subflows at {address} port 9001: Address already in use"
    )


def listener(node: Node, address: str, port: int) -> socket.socket:
    """Another program's listener; a context manager that closes it."""
    with node.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.bind((address, port))
    sock.listen()
    return sock


@pytest.mark.parametrize("role", ROLES)
def test_second_instance(lab: Lab, before: dict[str, Snapshot], tmp_path: Path, role: str) -> None:
    daemon = make(lab, role)
    daemon.start()
    alive = look(daemon)
    for directory, sentence in (
        (daemon.run_dir, f"hybrid-{role} runs already (process {daemon.process.pid}, run directory {daemon.run_dir})"),
        (tmp_path, "another hybrid-cpe or hybrid-hag runs in this network namespace"),
    ):
        ended = to_the_end(daemon, arguments=["--run-dir", str(directory)])
        assert (ended.status, ended.errors) == (UNAVAILABLE, [sentence])
        assert difference(alive, look(daemon)) == []
    assert daemon.answers()
    assert daemon.stop() == 0
    assert difference(before[role], look(daemon)) == []


# The run directory


def test_run_directory_is_a_file(lab: Lab, fails: Fails, tmp_path: Path) -> None:
    file = tmp_path / "run"
    file.touch()
    sentence = fails(make(lab, "cpe"), arguments=["--run-dir", str(file)])
    assert sentence == f"cannot use the run directory {file}: File exists"


def test_run_directory_where_anybody_may_write(lab: Lab, fails: Fails, tmp_path: Path) -> None:
    """Nor does the daemon write what it has to say through a link that somebody has planted there."""
    directory, victim = tmp_path / "open", tmp_path / "victim"
    directory.mkdir()
    directory.chmod(0o777)
    (directory / "hag.failure.new").symlink_to(victim)
    sentence = fails(make(lab, "hag"), arguments=["--run-dir", str(directory)])
    assert sentence == f"anybody may write to the run directory {directory} (--run-dir names another)"
    assert not victim.exists()


@pytest.mark.parametrize("role", ROLES)
def test_run_directory_with_too_long_a_name(lab: Lab, fails: Fails, tmp_path: Path, role: str) -> None:
    """The control socket is the last thing to be made: all else is installed then."""
    directory = tmp_path / ("x" * 100)  # unix(7): the path of a socket has at most 107 bytes
    sentence = fails(make(lab, role), arguments=["--run-dir", str(directory)])
    assert sentence == f"cannot make the control socket {directory}/{role}.sock: AF_UNIX path too long"
    assert [path.name for path in directory.iterdir()] == [f"{role}.failure"]


@pytest.mark.full
@pytest.mark.parametrize("role", ROLES)
def test_full_disk(lab: Lab, fails: Fails, role: str) -> None:
    daemon = make(lab, role)
    full = f"mount -t tmpfs -o size=8k,mode=755 none {daemon.run_dir} && head -c 8192 /dev/zero >{daemon.run_dir}/full"
    sentence = fails(daemon, UNAVAILABLE, prefix=privately(full))
    assert sentence == (f"cannot note the settings of now in {daemon.run_dir}/{role}.settings: No space left on device")


def test_last_words(lab: Lab, fails: Fails) -> None:
    daemon = make(lab, "hag", {"access": ["nosuch"]})
    sentence = fails(daemon, UNAVAILABLE)
    with pytest.raises(Absent) as caught:
        ask("hag", daemon.run_dir, "status")
    assert caught.value.last_words == sentence
    daemon = make(lab, "hag")
    daemon.start()
    assert daemon.stop() == 0
    with pytest.raises(Absent) as caught:
        ask("hag", daemon.run_dir, "status")
    assert caught.value.last_words == ""


# Programs, and kernels that lack a feature


def test_nft_missing(lab: Lab, fails: Fails, without: "Without") -> None:
    sentence = fails(make(lab, "hag"), prefix=without("nft"))
    assert sentence == "the program 'nft' is missing: install the package nftables"


@pytest.mark.parametrize(("role", "program"), [("hag", "iptables-restore"), ("cpe", "ip6tables-restore")])
def test_iptables_missing_where_it_is_needed(
    lab: Lab, fails: Fails, stand_in: "StandIn", without: "Without", role: str, program: str
) -> None:
    path = stand_in("nft", NFT_WITHOUT_QUEUE)
    sentence = fails(make(lab, role), prefix=[*path, *without(program)])
    assert sentence == f"the program '{program}' is missing: install the package iptables"


def privately(script: str) -> list[str]:
    """A command that runs another one with mounts of its own, changed by the script."""
    return ["unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh"]


@pytest.fixture
def without(tmp_path: Path) -> Callable[[str], list[str]]:
    """Makes a command that runs another one on a machine that seems not to have a program."""

    def make_without(program: str) -> list[str]:
        path = shutil.which(program)
        assert path, f"the program '{program}' is not installed"
        folder = os.path.realpath(os.path.dirname(path))
        real, fake = tmp_path / "real", tmp_path / "fake"
        real.mkdir()
        fake.mkdir()
        for name in os.listdir(folder):
            if name != program:
                (fake / name).symlink_to(real / name)
        return privately(f"mount --bind {folder} {real} && mount --bind {fake} {folder}")

    return make_without


StandIn = Callable[[str, str], list[str]]
Without = Callable[[str], list[str]]


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    """Makes a stand-in for a program, to come first in PATH; gives the command to run another one with it."""

    def make_stand_in(program: str, script: str) -> list[str]:
        file = tmp_path / program
        file.write_text(f"#!/bin/sh\nreal={shutil.which(program)}\n{script}\n")
        file.chmod(0o755)
        return ["env", f"PATH={tmp_path}:{os.environ['PATH']}"]

    return make_stand_in


# What the real programs say where the kernel lacks something: nft 1.0.6 and iptables 1.8.9 on Linux 6.18.

QUEUE_REFUSED = """\
Error: Could not process rule: No such file or directory
add rule inet hybrid_access hold meta mark & 0xff000000 == 0x48000000 queue flags bypass to 4800
                                                                      ^^^^^^^^^^^^^^^^^^^^^^^^^^
"""
TPROXY_REFUSED = """\
In file included from /usr/share/hybrid-access/nftables/hybrid-cpe.nft:50:2-22:
/usr/share/hybrid-access/nftables/deliver.nft:30:56-72: Error: Could not process rule: No such file or directory
 meta mark & 0xff000000 >= 0x60000000 meta l4proto tcp tproxy ip to 127.0.0.1:4800 accept comment "released, IPv4"
                                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^
"""
NFQUEUE_REFUSED = """\
Warning: Extension NFQUEUE revision 0 not supported, missing kernel module?
iptables-restore v1.8.9 (nf_tables):
line 2: RULE_APPEND failed (No such file or directory): rule in chain PREROUTING
"""


def refusing(arguments: str, status: int, words: str) -> str:
    """A stand-in that says so when it is called with such arguments; any others go to the real program."""
    return f"""\
case "$*" in {arguments})
cat >&2 <<'END'
{words}END
exit {status} ;;
esac
exec "$real" "$@"
"""


NFT_WITHOUT_QUEUE = refusing('*" queue "*', 1, QUEUE_REFUSED)
NO_NFT_QUEUE = "the kernel has no nft queue (CONFIG_NFT_QUEUE)"
NFT_WITH_QUEUE = """case "$*" in *" queue "*) exit 0 ;; esac; exec "$real" "$@" """
NFT_WITHOUT_TPROXY = refusing('*" -f "*', 1, TPROXY_REFUSED)
IPTABLES_WITHOUT_NFQUEUE = refusing('*"--noflush"*', 4, NFQUEUE_REFUSED)


def test_kernel_without_tproxy(lab: Lab, fails: Fails, stand_in: StandIn) -> None:
    sentence = fails(make(lab, "cpe"), prefix=stand_in("nft", NFT_WITHOUT_TPROXY))
    assert sentence.startswith("the kernel's nftables has no 'tproxy' (CONFIG_NFT_TPROXY, kmod-nft-tproxy): ")


@pytest.mark.parametrize(("role", "program"), [("cpe", "iptables-restore"), ("hag", "ip6tables-restore")])
def test_kernel_without_any_queue(lab: Lab, fails: Fails, stand_in: StandIn, role: str, program: str) -> None:
    """Where only ip6tables refuses, the IPv4 rule is there already."""
    stand_in("nft", NFT_WITHOUT_QUEUE)
    path = stand_in(program, IPTABLES_WITHOUT_NFQUEUE)
    sentence = fails(make(lab, role), prefix=path)
    assert sentence.startswith("the kernel has no netfilter queue for us: ")
    assert "NFQUEUE" in sentence


@pytest.mark.parametrize(
    ("role", "nft", "told", "iptables_rules"),
    [
        ("cpe", NFT_WITH_QUEUE, "SYNs wait in nft's own queue 4800", 0),
        ("cpe", NFT_WITHOUT_QUEUE, f"{NO_NFT_QUEUE}: SYNs wait in iptables' NFQUEUE 4800", 2),
        ("hag", NFT_WITH_QUEUE, "SYNs wait in nft's own queue 4900-4901", 0),
        ("hag", NFT_WITHOUT_QUEUE, f"{NO_NFT_QUEUE}: SYNs wait in iptables' NFQUEUE 4900-4901", 4),
    ],
    ids=["cpe-nft", "cpe-iptables", "hag-nft", "hag-iptables"],
)
def test_log_says_which_queue(
    lab: Lab, before: dict[str, Snapshot], stand_in: StandIn, role: str, nft: str, told: str, iptables_rules: int
) -> None:
    """With stand-ins for an nft whose kernel has, or lacks, the queue."""
    daemon = make(lab, role, {"workers": 1 if role == "cpe" else 2})
    process = background(daemon, stand_in("nft", nft))
    process.wait_until(daemon.answers)
    installed = difference(before[role], look(daemon))
    assert process.stop() == 0
    assert ("INFO", told) in Ended(0, process.output()).records
    assert sum("-j NFQUEUE" in line for line in installed) == iptables_rules
    assert difference(before[role], look(daemon)) == []
