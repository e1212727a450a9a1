# SPDX-License-Identifier: GPL-2.0-or-later
"""The table and the queue rules in a real kernel: loaded, replaced, taken out; other people's rules stay."""

import re
import resource
import socket
import time
from ipaddress import ip_network

import pytest

from common import marks, nft
from common.system import SystemLacks
from lab.netns import Namespace

pytestmark = pytest.mark.root

CPE = "hybrid-cpe.nft"
HAG = "hybrid-hag.nft"
VARIABLES = {
    CPE: {
        "lan": nft.names(["lan", "br-guest"]),
        "quic": nft.names(["lo"]),
        "links": nft.names(["xdsl", "lte"]),
        "leg": f"{marks.server_leg():#x}",
        "release": nft.release_map((marks.release, 9000), workers=2),
    },
    HAG: {
        "access": nft.names(["vlan100"]),
        **nft.prefixes("closed", map(ip_network, ["10.0.0.0/8", "10.1.0.0/16", "fe80::/10"])),
        "release": nft.release_map((marks.release, 9000), workers=2),
    },
}
FOREIGN_MARK = 0x00ABCDEF
FOREIGN = """
table inet other {
    chain prerouting {
        type filter hook prerouting priority mangle;
        meta mark 0x48000000 counter comment "hybrid-access"
    }
}
"""


@pytest.fixture(params=[CPE, HAG])
def file(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ruleset(namespace: Namespace) -> str:
    return namespace.run(["nft", "list", "ruleset"]).stdout


def mangle(namespace: Namespace) -> list[str]:
    """What iptables has in the table of the queue rules, of both families."""
    rules = []
    for program in ("iptables", "ip6tables"):
        rules += namespace.run([program, "-w", "-t", "mangle", "-S"]).stdout.splitlines()
    return [rule for rule in rules if rule.startswith("-A")]


def queue_rules(namespace: Namespace) -> list[str]:
    """Of nft's own or iptables' kind."""
    table = namespace.run(["nft", "list", "table", "inet", "hybrid_access"], check=False).stdout
    own = [line for line in table.splitlines() if re.search(r"\bqueue (flags|num|to) ", line.partition("comment")[0])]
    return own + [rule for rule in mangle(namespace) if "NFQUEUE" in rule]


def test_names() -> None:
    assert nft.names(["lan"]) == '{ "lan" }'
    assert nft.names(["lan", "br-guest"]) == '{ "lan", "br-guest" }'
    assert nft.names([]) == '{ "." }'


def test_release_map() -> None:
    assert nft.release_map((marks.release, 9000), workers=1) == "{ 0x60000000 : 9000 }"
    assert (
        nft.release_map((marks.release, 9000), workers=3)
        == "{ 0x60000000 : 9000, 0x61000000 : 9001, 0x62000000 : 9002 }"
    )


def test_loaded_and_taken_out(namespace: Namespace, file: str) -> None:
    nft.load(file, VARIABLES[file])
    assert ruleset(namespace).startswith("table inet hybrid_access {")
    for mark, port in ((marks.release(0), 9000), (marks.release(1), 9001)):
        assert f"{mark:#x} : {port}" in ruleset(namespace)
    nft.unload()
    assert ruleset(namespace) == ""
    nft.unload()


def test_loaded_again_it_replaces_what_a_crash_left(namespace: Namespace, file: str) -> None:
    nft.load(file, VARIABLES[file])
    once = ruleset(namespace)
    nft.load(file, VARIABLES[file])
    assert ruleset(namespace) == once
    nft.load(file, VARIABLES[file] | {"release": nft.release_map((marks.release, 7000), workers=1)})
    assert ": 7000" in ruleset(namespace)
    assert ": 9000" not in ruleset(namespace)


def test_as_many_workers_as_there_may_be(namespace: Namespace, file: str) -> None:
    nft.load(file, VARIABLES[file] | {"release": nft.release_map((marks.release, 9000), workers=marks.MAX_WORKERS)})
    assert f"{marks.release(marks.MAX_WORKERS - 1):#x} : {9000 + marks.MAX_WORKERS - 1}" in ruleset(namespace)


def test_a_table_that_cannot_be_loaded_leaves_the_former_one(namespace: Namespace, file: str) -> None:
    nft.load(file, VARIABLES[file])
    before = ruleset(namespace)
    with pytest.raises(SystemLacks, match=f"^nftables does not take {file}: .+"):
        nft.load(file, VARIABLES[file] | {"release": "{ 0x60000000 : nonsense }"})
    assert ruleset(namespace) == before


def test_prefixes() -> None:
    networks = map(ip_network, ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"])
    assert nft.prefixes("x", networks) == {"x4": "{ 10.0.0.0/8, 192.0.2.1/32 }", "x6": "{ 2001:db8::/32 }"}


def test_counters(namespace: Namespace) -> None:
    assert nft.counters({"own": "mine"}) == {}  # no table yet
    nft.load(HAG, VARIABLES[HAG])
    assert nft.counters({"own": "mine"}) == {}  # nothing counted yet
    namespace.run(["nft", "add chain inet hybrid_access test { type filter hook output priority 0; }"])
    namespace.run(["nft", "add rule inet hybrid_access test meta mark 7 counter name own"])
    namespace.run(["nft", "add rule inet hybrid_access test meta mark 7 counter name stopped"])
    with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
        for _ in range(3):
            sender.sendto(b"x", ("127.0.0.1", 9))
    assert nft.counters({"own": "mine", "forged": "others"}) == {"mine": 3}
    namespace.run(["nft", "add table inet other { counter own { packets 5 bytes 5 } ; }"])
    assert nft.counters({"own": "mine", "forged": "others"}) == {"mine": 3}


def test_counters_are_read_without_the_sets(namespace: Namespace) -> None:
    """In the time of a few system calls, however much is remembered."""
    nft.load(HAG, VARIABLES[HAG])
    elements = ", ".join(f"10.{n >> 8}.{n & 255}.1 . 1 . 192.0.2.1 . 80" for n in range(20_000))
    namespace.run(["nft", "-f", "-"], text=f"add element inet hybrid_access passed4 {{ {elements} }}")
    namespace.run(["nft", "add chain inet hybrid_access test { type filter hook output priority 0; }"])
    namespace.run(["nft", "add rule inet hybrid_access test meta mark 7 counter name own"])
    began = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert nft.counters({"own": "mine"}) == {}
    assert time.process_time() - began[0] < 0.02
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime == began[1]  # and no program is run for it


@pytest.mark.parametrize("count", [1, 3, marks.MAX_WORKERS])
def test_the_queue_rules_come_and_go(namespace: Namespace, file: str, count: int) -> None:
    nft.load(file, VARIABLES[file])
    before = ruleset(namespace)
    undo = nft.add_queue_rule(10, count)
    rules = queue_rules(namespace)
    assert all("bypass" in rule for rule in rules)
    if any("NFQUEUE" in rule for rule in rules):
        queues = [int(rule.partition("--queue-num ")[2].split()[0]) for rule in rules]
        assert sorted(queues) == sorted([*range(10, 10 + count)] * 2)
    else:  # one rule for both families, where there is nothing to choose
        assert len(rules) == (1 if count == 1 else 2)
    undo()
    nft.load(file, VARIABLES[file])
    assert ruleset(namespace) == before


def test_nft_chooses_the_queue() -> None:
    """Text alone: the kernels at hand may lack nft's queue."""
    rule = "add rule inet hybrid_access hold meta mark & 0xff000000 == {mark} queue flags bypass to"
    arriving, inbound = rule.format(mark="0x48000000"), rule.format(mark="0x47000000")
    seed = re.findall(r"seed (0x\w+)", nft.own_queue(4964, 2, nft.FORWARDED))[0]
    assert nft.own_queue(4900, 1, nft.ARRIVING) == f"{arriving} 4900"
    assert nft.own_queue(4900, 2, nft.ARRIVING).split("; ") == [
        f"{arriving} jhash ip saddr . tcp sport . ip daddr . tcp dport mod 2 offset 4900",
        f"{arriving} jhash ip6 saddr . tcp sport . ip6 daddr . tcp dport mod 2 offset 4900",
    ]
    assert nft.own_queue(4964, 3, nft.GIVEN_UP).split("; ") == [
        f"{inbound} jhash ip saddr . tcp sport mod 3 seed {seed} offset 4964",
        f"{inbound} jhash ip6 saddr . tcp sport mod 3 seed {seed} offset 4964",
    ]
    assert nft.own_queue(4964, 3, nft.FORWARDED) == nft.own_queue(4964, 3, nft.GIVEN_UP).replace(
        " hold ", " hold_inbound "
    )


def test_iptables_chooses_it_by_a_mark_of_each_worker() -> None:
    assert nft.iptables_rules(4900, 1, nft.ARRIVING).splitlines() == [
        "*mangle",
        "-A PREROUTING -m mark --mark 0x48000000/0xff000000 -m comment --comment hybrid-access"
        " -j NFQUEUE --queue-num 4900 --queue-bypass",
        "COMMIT",
    ]
    assert nft.iptables_rules(4900, 2, nft.ARRIVING).splitlines() == [
        "*mangle",
        ":hybrid-access-queues - [0:0]",
        "-A hybrid-access-queues -m mark --mark 0x1000000/0xff000000 -m comment --comment hybrid-access"
        " -j NFQUEUE --queue-num 4900 --queue-bypass",
        "-A hybrid-access-queues -m mark --mark 0x2000000/0xff000000 -m comment --comment hybrid-access"
        " -j NFQUEUE --queue-num 4901 --queue-bypass",
        "-A PREROUTING -m mark ! --mark 0x0/0xff000000 -m comment --comment hybrid-access -j hybrid-access-queues",
        "COMMIT",
    ]
    assert nft.iptables_rules(4964, 2, nft.FORWARDED).splitlines() == [
        "*security",
        "-A FORWARD -m mark --mark 0x47000000/0xff000000 -m comment --comment hybrid-access"
        " -j NFQUEUE --queue-balance 4964:4965 --queue-bypass",
        "COMMIT",
    ]


def test_the_marks_of_the_workers_leave_the_rest_of_the_mark_alone(namespace: Namespace) -> None:
    nft.load(HAG, VARIABLES[HAG])
    nft.add_queue_rule(64, 2)
    nft.remove_iptables_rules()
    if "to_queue_0" not in ruleset(namespace):
        pytest.skip("this kernel has nft's own queue")
    namespace.run(["nft", "add chain inet hybrid_access test { type filter hook output priority 0; }"])
    seen = "{ type mark . inet_service; flags dynamic; }"
    namespace.run(["nft", f"add set inet hybrid_access seen {seen}"])
    namespace.run(["nft", "add chain inet hybrid_access last { type filter hook output priority 1; }"])
    namespace.run(["nft", "add rule inet hybrid_access last update @seen { meta mark . tcp dport }"])
    namespace.run(["nft", "add rule inet hybrid_access test tcp flags syn goto to_queue"])
    namespace.run(["ip", "link", "set", "lo", "up"])
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with namespace.entered():
            clients = [socket.socket(family, socket.SOCK_STREAM) for _ in range(40)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, FOREIGN_MARK)
            client.setblocking(False)
            client.connect_ex((address, 9))
            client.close()
        listed = namespace.run(["nft", "list set inet hybrid_access seen"]).stdout
        assert {int(mark, 16) for mark in re.findall(r"(0x\w+) \. 9", listed)} == {
            marks.combine(FOREIGN_MARK, marks.queued(worker)) for worker in range(2)
        }
        namespace.run(["nft", "flush set inet hybrid_access seen"])


def test_a_queue_rule_that_a_crash_left_is_not_doubled(namespace: Namespace, file: str) -> None:
    """As the daemons begin: remove, load, add."""
    for _ in range(3):
        nft.remove_iptables_rules()
        nft.load(file, VARIABLES[file])
        nft.add_queue_rule(10, 1)
    families = len([rule for rule in mangle(namespace) if "NFQUEUE" in rule])
    assert families in (0, 2)
    assert len(queue_rules(namespace)) == (families or 1)
    nft.remove_iptables_rules()
    nft.unload()
    assert queue_rules(namespace) == []


def test_other_peoples_rules_stay(namespace: Namespace, file: str) -> None:
    namespace.run(["nft", "-f", "-"], text=FOREIGN)
    for rule in (
        "-A PREROUTING -m mark --mark 0x48000000/0xff000000 -j NFQUEUE --queue-num 10 --queue-bypass",
        "-A PREROUTING -p tcp -j MARK --set-xmark 0x1/0xff",
    ):
        namespace.run(["iptables", "-w", "-t", "mangle", *rule.split()])
    namespace.run(
        ["iptables", "-w", "-t", "mangle", "-A", "PREROUTING", "-m", "comment", "--comment", "my hybrid-access too"]
    )
    before = ruleset(namespace)
    iptables = mangle(namespace)
    assert len(iptables) == 3
    nft.load(file, VARIABLES[file])
    undo = nft.add_queue_rule(10, 1)
    undo()
    nft.unload()
    nft.remove_iptables_rules()
    assert mangle(namespace) == iptables
    assert [table for table in ruleset(namespace).split("\ntable ") if " other " in table] == [
        table for table in before.split("\ntable ") if " other " in table
    ]


INBOUND = {
    CPE: ("inbound-cpe.nft", {"primary": nft.names(["xdsl"]), "address": "198.51.100.2", "note": "note_little"}),
    HAG: (
        "inbound-hag.nft",
        {**nft.prefixes("subscriber", [ip_network("198.51.100.0/24")]), **nft.prefixes("protected", [])},
    ),
}


def test_what_is_added_for_connections_from_the_internet_goes_with_the_table(namespace: Namespace, file: str) -> None:
    nft.remove_iptables_rules()
    nft.load(file, VARIABLES[file])
    without = ruleset(namespace)
    added, variables = INBOUND[file]
    nft.load(added, variables)
    for place in (nft.FORWARDED, nft.GIVEN_UP):
        undo = nft.add_queue_rule(64, 2, place)
    assert f"{marks.GATE_INBOUND:#x}" in ruleset(namespace)
    undo()
    nft.load(file, VARIABLES[file])
    assert ruleset(namespace) == without


@pytest.mark.parametrize("note", ["note_little", "note_big"])
def test_either_order_of_bytes(namespace: Namespace, note: str) -> None:
    nft.load(CPE, VARIABLES[CPE])
    nft.load("inbound-cpe.nft", INBOUND[CPE][1] | {"note": note})
    assert f"goto {note}" in ruleset(namespace)


def test_a_program_that_cannot_be_run_is_a_lack_and_no_fault_of_ours() -> None:
    with pytest.raises(SystemLacks) as caught:
        nft._run(["/nowhere/nft"])
    assert str(caught.value) == "cannot run /nowhere/nft: No such file or directory"
