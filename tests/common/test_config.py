# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration: text in, dataclasses or the exact complaint out; and its document."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import config
from common.config import SECTIONS, Config, ConfigErrors, CpeConfig, HagConfig, LogLevel, NativeMptcp, Quic
from common.link import LinkConfig, Role
from common.options import Entry
from common.policy import BypassRule, Policy, Steering

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"

CPE = "config cpe 'cpe'\n list lan 'br-lan'\n"
XDSL = "config link 'xdsl'\n option device 'pppoe-wan'\n option role 'primary'\n"
LTE = "config link 'lte'\n option device 'wwan0'\n option role 'secondary'\n"
HAG = "config hag 'hag'\n list access 'v100'\n option join_device 'v200'\n list subscriber '192.0.2.0/24'\n"


def cpe(text: str) -> CpeConfig:
    parsed = config.parse(text, "f").cpe
    assert parsed
    return parsed


def hag(text: str) -> HagConfig:
    parsed = config.parse(text, "f").hag
    assert parsed
    return parsed


def bypass(*lines: str) -> BypassRule:
    (rule,) = cpe(CPE + XDSL + "config bypass\n" + "\n".join(lines)).bypass
    return rule


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        config.parse(text, "f")
    return str(caught.value).splitlines()


def complaint(section: str, line: str) -> str:
    """The one complaint about a line at the end of a section that is otherwise right."""
    base = {
        "cpe": XDSL + CPE,
        "link": CPE + XDSL,
        "bypass": CPE + XDSL + "config bypass 'b'\n",
        "policy": CPE + XDSL + "config policy 'p'\n option steering 'always'\n",
        "hag": HAG,
    }[section]
    (error,) = complaints(base + line)
    return error.partition(": ")[2]


def test_a_home_router_with_everything_set() -> None:
    text = """\
config cpe
	list lan 'br-lan'
	list lan 'br-guest'
	option steering 'always'
	option join_after '128k'
	list join_address '2001:db8::9'
	list join_address '192.0.2.9'
	option join_port '9009'
	option native_mptcp 'pass'
	option workers '4'
	option max_flows '1000'
	option flow_buffer '4M'
	option drain '5'
	option log_level 'debug'
	option queue '10'
	option listen_port '5000'
	option table_base '300'
	option rule_priority '100'
	option hold '30'
	option probe_interval '1000'
	option probe_count '3'
	option quic 'fallback'
	option state_dir '/etc/hybrid-access'
config link 'lte'
	option device 'wwan0'
	option role 'secondary'
config link 'xdsl'
	option device 'pppoe-wan'
	option role 'primary'
	option rate_down '20mbit'
	option rate_up '1.5mbit'
config bypass 'voip'
	list dport '443'
	list dport '5060-5061'
	list dst '2001:db8::/32'
	list dst '192.0.2.1'
	list src '198.51.100.0/24'
	option dscp 'ef'
	list device 'br-guest'
config bypass
	option dscp '0'
config policy 'games'
	option steering 'smallest-delay'
	list dport '27000-27100'
	list src '198.51.100.8'
	option dscp 'cs4'
"""
    lte = LinkConfig(name="lte", device="wwan0", role=Role.SECONDARY, rate_down=None, rate_up=None)
    xdsl = LinkConfig(name="xdsl", device="pppoe-wan", role=Role.PRIMARY, rate_down=20_000_000, rate_up=1_500_000)
    voip = BypassRule(
        name="bypass 'voip'",
        dports=(range(443, 444), range(5060, 5062)),
        dsts=(ip_network("2001:db8::/32"), ip_network("192.0.2.1/32")),
        srcs=(ip_network("198.51.100.0/24"),),
        dscp=46,
        devices=("br-guest",),
    )
    marked = BypassRule(name="bypass at line 40", dports=(), dsts=(), srcs=(), dscp=0, devices=())
    games = Policy(
        name="policy 'games'",
        steering=Steering.SMALLEST_DELAY,
        dports=(range(27000, 27101),),
        dsts=(),
        srcs=(ip_network("198.51.100.8/32"),),
        dscp=32,
        devices=(),
    )
    expected = CpeConfig(
        lan=("br-lan", "br-guest"),
        lan_interface=(),
        steering=Steering.ALWAYS,
        join_after=131072,
        join_addresses=(ip_address("2001:db8::9"), ip_address("192.0.2.9")),
        join_port=9009,
        native_mptcp=NativeMptcp.PASS,
        quic=Quic.FALLBACK,
        inbound=False,
        hold=30,
        probe_interval=1000,
        probe_count=3,
        state_dir=Path("/etc/hybrid-access"),
        workers=4,
        max_flows=1000,
        flow_buffer=4 * 1024 * 1024,
        drain=5,
        log_level=LogLevel.DEBUG,
        queue=10,
        listen_port=5000,
        table_base=300,
        rule_priority=100,
        links=(lte, xdsl),
        bypass=(voip, marked),
        policies=(games,),
    )
    assert config.parse(text, "f") == Config(cpe=expected, hag=None)
    assert expected.primary == xdsl
    assert expected.secondaries == (lte,)


def test_defaults_of_a_home_router() -> None:
    assert cpe(CPE + XDSL) == CpeConfig(
        lan=("br-lan",),
        lan_interface=(),
        steering=Steering.OVERFLOW,
        join_after=65536,
        join_addresses=(),
        join_port=9001,
        native_mptcp=NativeMptcp.BOND,
        quic=Quic.PASS,
        inbound=False,
        hold=10,
        probe_interval=250,
        probe_count=4,
        state_dir=Path("/var/lib/hybrid-access"),
        workers=1,
        max_flows=None,
        flow_buffer=16 * 1024 * 1024,
        drain=30,
        log_level=LogLevel.INFO,
        queue=4800,
        listen_port=4800,
        table_base=4800,
        rule_priority=480,
        links=(LinkConfig(name="xdsl", device="pppoe-wan", role=Role.PRIMARY, rate_down=None, rate_up=None),),
        bypass=(),
        policies=(),
    )


def test_defaults_of_a_gateway() -> None:
    assert hag(HAG) == HagConfig(
        access=("v100",),
        join_device="v200",
        join_port=9001,
        subscribers=(ip_network("192.0.2.0/24"),),
        protect=(),
        max_flows_per_subscriber=None,
        delegated_prefix=56,
        native_mptcp=NativeMptcp.PASS,
        inbound=False,
        workers=None,
        max_flows=None,
        flow_buffer=16 * 1024 * 1024,
        drain=30,
        log_level=LogLevel.INFO,
        queue=4900,
        listen_port=4900,
        table_base=4900,
        rule_priority=490,
    )


def test_one_file_for_both_roles() -> None:
    both = config.parse(CPE + XDSL + HAG, "f")
    assert both == Config(cpe=cpe(CPE + XDSL), hag=hag(HAG))


def test_a_file_for_no_role() -> None:
    assert config.parse("# nothing yet\n", "f") == Config(cpe=None, hag=None)


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("1bit", 1),
        ("500kbit", 500_000),
        ("20mbit", 20_000_000),
        ("1.5Mbit", 1_500_000),
        ("1gbit", 1_000_000_000),
    ],
)
def test_rate(text: str, bits: int) -> None:
    assert cpe(CPE + XDSL + f"option rate_up '{text}'").primary.rate_up == bits


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("65536", 65536), ("64k", 65536), ("64K", 65536), ("1M", 1048576)]
)
def test_join_after(text: str, size: int) -> None:
    assert cpe(XDSL + CPE + f"option join_after '{text}'").join_after == size


@pytest.mark.parametrize(
    ("text", "dscp"),
    [
        ("0", 0),
        ("63", 63),
        ("be", 0),
        ("cs0", 0),
        ("cs1", 8),
        ("cs7", 56),
        ("af11", 10),
        ("af43", 38),
        ("EF", 46),
    ],
)
def test_dscp(text: str, dscp: int) -> None:
    assert bypass(f"option dscp '{text}'").dscp == dscp


@pytest.mark.parametrize(
    ("text", "ports"), [("1", range(1, 2)), ("1-65535", range(1, 65536)), ("80-80", range(80, 81))]
)
def test_dport(text: str, ports: range) -> None:
    assert bypass(f"list dport '{text}'").dports == (ports,)


def test_workers_auto() -> None:
    assert cpe(XDSL + CPE + "option workers 'auto'").workers is None
    assert hag(HAG + "option workers '64'").workers == 64


DEVICE = "is not a device name (up to 15 letters, digits and _ . -)"
RATE = "is not a rate such as 500kbit, 20mbit or 1.5gbit"
SIZE = "is not a number of bytes such as 65536, 64k or 1M"
PORTS = "is not a port or a range of ports such as 5060-5061"
DSCP = "is not a number from 0 to 63 or one of: be, ef, cs0 to cs7, af11 to af43"
PREFIX = "is not an IPv4 or IPv6 prefix"


@pytest.mark.parametrize("text", ["", "abcdefghijklmnop", "a/b", "a b", "..", "eth*", "eth+", "eth0@if2", "-i", "é"])
def test_not_a_device(text: str) -> None:
    assert complaint("cpe", f"list lan '{text}'") == f"cpe 'cpe', option 'lan': '{text}' {DEVICE}"


@pytest.mark.parametrize("text", ["", "20", "20m", "mbit", "0mbit", "0.0001kbit", "-1mbit", "1.mbit", "1tbit", "٣mbit"])
def test_not_a_rate(text: str) -> None:
    assert complaint("link", f"option rate_up '{text}'") == f"link 'xdsl', option 'rate_up': '{text}' {RATE}"


@pytest.mark.parametrize("text", ["", "-1", "1.5M", "1G", "1kB", "k", "1_000", "1" * 16])
def test_not_a_size(text: str) -> None:
    assert complaint("cpe", f"option join_after '{text}'") == f"cpe 'cpe', option 'join_after': '{text}' {SIZE}"


@pytest.mark.parametrize("text", ["", "0", "65536", "0-1", "2-1", "1-65536", "1-", "-1", "1-2-3", "http", "1 - 2"])
def test_not_ports(text: str) -> None:
    assert complaint("bypass", f"list dport '{text}'") == f"bypass 'b', option 'dport': '{text}' {PORTS}"


@pytest.mark.parametrize("text", ["", "64", "-1", "af14", "af51", "cs8", "expedited", "0x2e"])
def test_not_a_dscp(text: str) -> None:
    assert complaint("bypass", f"option dscp '{text}'") == f"bypass 'b', option 'dscp': '{text}' {DSCP}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "host",
        "192.0.2",
        "192.0.2.0/33",
        "192.0.2.0/",
        "192.0.2.0/255.255.255.0",
        "::/129",
        "fe80::1%eth0",
    ],
)
def test_not_a_prefix(text: str) -> None:
    assert complaint("hag", f"list protect '{text}'") == f"hag 'hag', option 'protect': '{text}' {PREFIX}"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:cb00:7107", "203.0.113.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_an_ipv4_prefix_is_not_said_in_ipv6(text: str, meant: str) -> None:
    """It would guard nothing: no packet has such an address."""
    assert (
        complaint("hag", f"list protect '{text}'")
        == f"hag 'hag', option 'protect': '{text}' is IPv4 in IPv6's words (did you mean '{meant}'?)"
    )


@pytest.mark.parametrize("text", ["64:ff9b::203.0.113.0/120", "::/8", "::fffe:0:0/96", "2002:cb00:7100::/40"])
def test_a_prefix_that_is_not_ipv4(text: str) -> None:
    found = config.parse(HAG + f"\tlist protect '{text}'\n", "f").hag
    assert found is not None
    assert [it.version for it in found.protect] == [6]


@pytest.mark.parametrize(
    ("section", "line", "expected"),
    [
        (
            "hag",
            "list subscriber '198.51.100.7/24'",
            "hag 'hag', option 'subscriber': '198.51.100.7/24' has bits set after its length"
            " (did you mean '198.51.100.0/24'?)",
        ),
        (
            "bypass",
            "list dst '2001:db8::1/32'",
            "bypass 'b', option 'dst': '2001:db8::1/32' has bits set after its length (did you mean '2001:db8::/32'?)",
        ),
        (
            "cpe",
            "option workers '0'",
            "cpe 'cpe', option 'workers': '0' is not a whole number from 1 to 64 or 'auto'",
        ),
        (
            "cpe",
            "option workers '65'",
            "cpe 'cpe', option 'workers': '65' is not a whole number from 1 to 64 or 'auto'",
        ),
        (
            "cpe",
            "option flow_buffer '512k'",
            "cpe 'cpe', option 'flow_buffer': '512k' is not a number of bytes from 1M to 1024M",
        ),
        (
            "cpe",
            "option flow_buffer '1025M'",
            "cpe 'cpe', option 'flow_buffer': '1025M' is not a number of bytes from 1M to 1024M",
        ),
        (
            "cpe",
            "option max_flows '0'",
            "cpe 'cpe', option 'max_flows': '0' is not a whole number from 1 to 2147483647",
        ),
        (
            "cpe",
            "option table_base '254'",
            "cpe 'cpe', option 'table_base': '254' is not a whole number from 256 to 2147483647",
        ),
        (
            "hag",
            "option rule_priority '32766'",
            "hag 'hag', option 'rule_priority': '32766' is not a whole number from 1 to 32000",
        ),
        (
            "hag",
            "option join_port '0'",
            "hag 'hag', option 'join_port': '0' is not a whole number from 1 to 65535",
        ),
        ("cpe", "option queue '٣'", "cpe 'cpe', option 'queue': '٣' is not a whole number from 0 to 65535"),
        ("cpe", "option drain '-1'", "cpe 'cpe', option 'drain': '-1' is not a whole number from 0 to 3600"),
        (
            "hag",
            "option log_level 'loud'",
            "hag 'hag', option 'log_level': 'loud' is not one of: debug, info, warning, error",
        ),
        (
            "cpe",
            "option steering 'never'",
            "cpe 'cpe', option 'steering': 'never' is not one of:"
            " overflow, active-standby, smallest-delay, load-balancing, always",
        ),
        (
            "cpe",
            "option state_dir 'hybrid'",
            "cpe 'cpe', option 'state_dir': 'hybrid' is not the absolute name of a directory",
        ),
        (
            "cpe",
            "option stering 'always'",
            "cpe 'cpe', option 'stering': unknown option (did you mean 'steering'?)",
        ),
        (
            "cpe",
            "list stering 'always'",
            "cpe 'cpe', option 'stering': unknown option (did you mean 'steering'?)",
        ),
        ("cpe", "option zzz '1'", "cpe 'cpe', option 'zzz': unknown option"),
        ("cpe", "list queue '1'", "cpe 'cpe', option 'queue': write it as: option queue '1'"),
        ("hag", "option protect '::/0'", "hag 'hag', option 'protect': write it as: list protect '::/0'"),
        ("cpe", "list lan 'br-lan'", "cpe 'cpe', option 'lan': 'br-lan' is listed twice"),
        ("bypass", "list dport '1'\nlist dport '1-1'", "bypass 'b', option 'dport': '1-1' is listed twice"),
        ("bypass", "", "bypass 'b': needs at least one of: dport, dst, src, dscp, device"),
        ("policy", "", "policy 'p': needs at least one of: dport, dst, src, dscp, device"),
        ("policy", "option rate_up '1mbit'", "policy 'p', option 'rate_up': unknown option"),
        ("policy", "list device 'wan'", "policy 'p', option 'device': matches nothing: 'wan' is no 'lan' of cpe 'cpe'"),
        (
            "bypass",
            "list dst '192.0.2.1'\nlist src '2001:db8::/32'",
            "bypass 'b': matches nothing: 'src' and 'dst' have no IP version in common",
        ),
        (
            "bypass",
            "list device 'eth9'",
            "bypass 'b', option 'device': matches nothing: 'eth9' is no 'lan' of cpe 'cpe'",
        ),
        (
            "cpe",
            "option workers '2'\noption queue '65535'",
            "cpe 'cpe', option 'queue': 65535 leaves no room for 2 workers below 65536",
        ),
        (
            "hag",
            "option listen_port '65473'",
            "hag 'hag', option 'listen_port': 65473 leaves no room for 64 workers below 65536",
        ),
        (
            "hag",
            "option join_port '4963'",
            "hag 'hag', option 'join_port': 4963 is also a worker's, which count up from listen_port",
        ),
    ],
)
def test_complaint(section: str, line: str, expected: str) -> None:
    assert complaint(section, line) == expected


def test_the_last_numbers_that_fit() -> None:
    assert cpe(XDSL + CPE + "option workers '2'\noption queue '65534'").queue == 65534
    assert hag(HAG + "option listen_port '65472'\noption join_port '65471'").listen_port == 65472


def test_a_link_by_the_name_of_its_network() -> None:
    home = cpe(CPE + XDSL.replace("device 'pppoe-wan'", "interface 'wan'") + LTE)
    assert (home.primary.device, home.primary.interface) == (None, "wan")
    assert [(link.device, link.interface) for link in home.secondaries] == [("wwan0", None)]


def test_lans_by_the_names_of_their_networks() -> None:
    named = CPE.replace("list lan 'br-lan'", "list lan_interface 'lan'\nlist lan_interface 'guest'")
    home = cpe(named + XDSL + "config bypass\n list device 'br-guest'")  # which may be one of these
    assert (home.lan, home.lan_interface) == ((), ("lan", "guest"))


def test_what_is_no_name_of_a_network() -> None:
    (error,) = complaints(CPE + XDSL.replace("device 'pppoe-wan'", "interface 'w an'"))
    reason = "'w an' is not the name of an interface (letters, digits and _ . -)"
    assert error == f"f:4: link 'xdsl', option 'interface': {reason}"


def test_addresses_of_both_versions_may_match() -> None:
    rule = bypass("list dst '192.0.2.1'", "list dst '2001:db8::1'", "list src '2001:db8::/32'")
    assert len(rule.dsts) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "config cpe",
            [
                "f:1: cpe at line 1: list 'lan' is missing",
                "f:1: cpe at line 1: there is no link with role 'primary'",
            ],
        ),
        (CPE + LTE, ["f:1: cpe 'cpe': there is no link with role 'primary'"]),
        (
            CPE + "config link 'a'",
            ["f:3: link 'a': option 'device' is missing", "f:3: link 'a': option 'role' is missing"],
        ),
        (
            CPE + XDSL + LTE.replace("secondary", "primary"),
            ["f:8: link 'lte', option 'role': link 'xdsl' is already the primary link"],
        ),
        (
            CPE + XDSL + LTE.replace("wwan0", "pppoe-wan"),
            ["f:7: link 'lte', option 'device': 'pppoe-wan' is already used at line 3"],
        ),
        (
            CPE + XDSL.replace("device", "interface") + LTE.replace("device 'wwan0'", "interface 'pppoe-wan'"),
            ["f:7: link 'lte', option 'interface': 'pppoe-wan' is already used at line 3"],
        ),
        (
            CPE + XDSL + " option interface 'wan'",
            ["f:6: link 'xdsl', option 'interface': 'device' says the same in other words: leave one of them out"],
        ),
        (
            CPE + XDSL + LTE.replace("wwan0", "br-lan"),
            ["f:7: link 'lte', option 'device': 'br-lan' is already used at line 2"],
        ),
        (
            CPE + XDSL + LTE.replace("'lte'", "'xdsl'"),
            ["f:6: link 'xdsl': the name 'xdsl' is already used at line 3"],
        ),
        (CPE + XDSL.replace("xdsl", "cpe"), ["f:3: link 'cpe': the name 'cpe' is already used at line 1"]),
        (
            CPE + XDSL + LTE.replace("'lte'", ""),
            ["f:6: link at line 6: a link needs a name: config link 'NAME'"],
        ),
        (CPE + XDSL + "config cpe 'two'", ["f:6: cpe 'two': only one 'cpe' section is allowed, see line 1"]),
        (HAG + "config hag", ["f:5: hag at line 5: only one 'hag' section is allowed, see line 1"]),
        (HAG + XDSL, ["f:5: link 'xdsl': there is no 'config cpe' section that it could belong to"]),
        (
            "config bypass\n option dscp ef",
            ["f:1: bypass at line 1: there is no 'config cpe' section that it could belong to"],
        ),
        ("config lnk 'xdsl'", ["f:1: lnk 'xdsl': unknown section type (did you mean 'link'?)"]),
        ("config globals", ["f:1: globals at line 1: unknown section type"]),
        (
            "config hag",
            [
                "f:1: hag at line 1: list 'access' is missing",
                "f:1: hag at line 1: option 'join_device' is missing",
                "f:1: hag at line 1: list 'subscriber' is missing",
            ],
        ),
    ],
)
def test_complaints_about_sections(text: str, expected: list[str]) -> None:
    assert complaints(text) == expected


def test_all_complaints_come_at_once_in_the_order_of_lines() -> None:
    text = """\
config hag
	list access 'v100'
	option join_device 'a device'
	list subscriber '192.0.2.0/24'
	list subscriber '192.0.2.0/99'

config cpe
	option lan 'br-lan'

config link 'xdsl'
	# no device
	option role 'primry'
	option rate_up '5mbit'
	option devise 'pppoe-wan'
"""
    assert complaints(text) == [
        f"f:3: hag at line 1, option 'join_device': 'a device' {DEVICE}",
        f"f:5: hag at line 1, option 'subscriber': '192.0.2.0/99' {PREFIX}",
        "f:8: cpe at line 7, option 'lan': write it as: list lan 'br-lan'",
        "f:10: link 'xdsl': option 'device' is missing",
        "f:12: link 'xdsl', option 'role': 'primry' is not one of: primary, secondary",
        "f:14: link 'xdsl', option 'devise': unknown option (did you mean 'device'?)",
    ]


def test_an_error_has_fields() -> None:
    with pytest.raises(ConfigErrors) as caught:
        config.parse(XDSL + CPE + "option queue x", "f")
    (error,) = caught.value.errors
    assert (error.file, error.line, error.section, error.option) == ("f", 6, "cpe 'cpe'", "queue")
    assert error.reason == "'x' is not a whole number from 0 to 65535"


def test_load(tmp_path: Path) -> None:
    file = tmp_path / "hybridaccess"
    file.write_text(HAG)
    assert config.load(file) == config.load(str(file)) == config.parse(HAG, "f")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"config hag\n\xff", ":2: the text is not UTF-8"),
        (b"config lan", ":1: lan at line 1: unknown section type"),
    ],
)
def test_load_names_the_file(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "hybridaccess"
    file.write_bytes(content)
    with pytest.raises(ConfigErrors) as caught:
        config.load(file)
    assert str(caught.value) == f"{file}{expected}"


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file or directory"), (".", "Is a directory")])
def test_load_what_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        config.load(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: cannot be read: {reason}"


names = st.sampled_from([*SECTIONS, *(name for table in SECTIONS.values() for name in table), "other"])
values = st.one_of(
    st.sampled_from(
        ["auto", "1", "65535", "eth0", "primary", "secondary", "always", "::/0", "10.0.0.0/8", "1mbit", "ef"]
    ),
    st.text(st.characters(exclude_characters="'\\\n\r"), max_size=20),
)
option_lines = st.builds("{} {} '{}'".format, st.sampled_from(["option", "list"]), names, values)
section_lines = st.builds("config {} '{}'".format, names, st.sampled_from("abcd"))
some_lines = st.lists(st.one_of(section_lines, option_lines, option_lines), max_size=20).map("\n".join)


def outcome(text: str) -> Config | ConfigErrors:
    try:
        return config.parse(text, "f")
    except ConfigErrors as errors:
        return errors


@given(st.one_of(st.text(), some_lines, some_lines.map((HAG + CPE + XDSL + LTE).__add__)))
def test_any_text_gives_a_configuration_or_errors(text: str) -> None:
    result = outcome(text)
    if isinstance(result, ConfigErrors):
        assert result.errors
        assert all(1 <= error.line <= text.count("\n") + 1 for error in result.errors)
    else:
        assert result.cpe is None or result.cpe.primary


def test_defaults_can_be_parsed() -> None:
    for table in SECTIONS.values():
        for entry in table.values():
            assert not (entry.required and entry.default)
            assert entry.default is None or entry.parse(entry.default) != ""


def documented(section: str) -> dict[str, tuple[str, str]]:
    """Name -> (kind, default) of the table under the heading of a section."""
    _, _, rest = DOCUMENT.read_text().partition(f"\n### config {section}\n")
    table = re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| [^|]+ \| ([^|]+) \| [^|]+ \|$", table, flags=re.MULTILINE)
    return {name: (kind, default) for name, kind, default in rows}


def described(entry: Entry) -> tuple[str, str]:
    if entry.required:
        return entry.keyword, "required"
    if entry.default is not None:
        return entry.keyword, f"`{entry.default}`"
    return entry.keyword, "none" if entry.many else "unset"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_option_is_documented(section: str) -> None:
    assert documented(section) == {name: described(entry) for name, entry in SECTIONS[section].items()}


def test_examples_of_the_document() -> None:
    router, gateway = re.findall(r"^```uci\n(.*?)^```$", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    home = cpe(router)
    assert (home.primary.rate_down, home.primary.rate_up) == (20_000_000, 5_000_000)
    assert [link.name for link in home.secondaries] == ["lte"]
    assert [rule.name for rule in home.bypass] == ["bypass 'voip'", "bypass 'work'"]
    assert hag(gateway).subscribers == (ip_network("2001:db8:1000::/36"), ip_network("198.51.100.0/24"))
    assert hag(gateway).max_flows == 200_000
    assert hag(gateway).protect == (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize("role", ["cpe", "hag"])
def test_examples_that_are_installed(role: str) -> None:
    """As files, and those of docs/install.md."""
    documents = DOCUMENT.parent
    loaded = config.load(documents / "examples" / role)
    assert getattr(loaded, role)
    blocks = re.findall(r"^```\n(config .*?)^```$", (documents / "install.md").read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(f"config {role} ")]
    assert getattr(config.parse(block, "install.md"), role)


def test_inbound_is_said_with_1_and_0() -> None:
    section = "config hag\n\tlist access 'a'\n\toption join_device 'b'\n\tlist subscriber '192.0.2.0/24'\n"
    for value, meant in (("1", True), ("0", False)):
        parsed = config.parse(section + f"\toption inbound '{value}'\n", "f").hag
        assert parsed
        assert parsed.inbound is meant
    with pytest.raises(ConfigErrors, match="'yes' is neither '1' nor '0'"):
        config.parse(section + "\toption inbound 'yes'\n", "f")


def test_inbound_takes_more_queues_and_ports() -> None:
    section = "config hag\n\tlist access 'a'\n\toption join_device 'b'\n\tlist subscriber '192.0.2.0/24'\n"
    section += "\toption workers '1'\n\toption queue '65500'\n"
    assert config.parse(section, "f").hag
    with pytest.raises(ConfigErrors, match="leaves no room"):
        config.parse(section + "\toption inbound '1'\n", "f")
    with pytest.raises(ConfigErrors, match="is also a worker's"):
        config.parse(section.replace("65500", "4900") + "\toption inbound '1'\n\toption join_port '4964'\n", "f")
