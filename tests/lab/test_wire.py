# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pair puts on the wire, captured at four places at once: the client, both accesses at the CPE, the server.

The packet walk of draft-peirens-mptcp-transparent-00, in the terms of RFC 8684. Segments are taken apart by
common/packet.py, with scapy as second opinion.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from common.mptcp_option import AddAddr, MpCapable
from common.packet import OPTION_MPTCP, Segment, checksums_ok
from lab.access import Profile
from lab.capture import Capture, Captured
from lab.daemons import NONE, Daemon, Options, cpe_daemon, hag_daemon
from lab.servers import WebServer
from lab.topology import Lab
from lab.transfer import download

pytestmark = pytest.mark.root

DELAY = 0.050  # seconds, one way: long beside whatever a busy machine adds to a round trip
ACCESS = Profile(rate_down=20e6, rate_up=10e6, delay=DELAY)
SIZE = 1_000_000  # bytes; join_after is 64 KiB

DENY_JOIN = 0x20  # C: not to the address of the first subflow
MP_CAPABLE_SYN = MpCapable(version=1, flags=DENY_JOIN | 0x01, sender_key=None, receiver_key=None)  # H: HMAC-SHA256

tcp_layer: Any = TCP  # of scapy's functions only some have types


@dataclass(frozen=True, slots=True)
class Recording:
    """One download, whether it was intact, and all the packets there were meanwhile."""

    lab: Lab
    family: int
    intact: bool
    lan: list[Captured]
    xdsl: list[Captured]
    lte: list[Captured]
    core: list[Captured]

    @property
    def server(self) -> tuple[str, int]:
        return self.lab.server.address("core", self.family), WebServer.PORT

    @property
    def subscriber(self) -> tuple[str, int]:
        """Who the server is to see. IPv6: the client. IPv4: the CPE, with the port that it uses on xDSL."""
        if self.family == 6:
            return source(syn(self.lan).segment)
        return self.lab.cpe.address("xdsl", 4), syn(self.xdsl).segment.sport


def record(lab: Lab, *families: int) -> list[Recording]:
    """One download over each family, in turn. All of them share the recording of LTE."""
    web = WebServer(lab.server)
    content = web.publish("file", SIZE)
    places = ((lab.client, "lan"), (lab.cpe, "xdsl"), (lab.cpe, "lte"), (lab.server, "core"))
    captures = [Capture(node, device) for node, device in places]
    transfers = {family: download(lab.client, web.url("file", family)) for family in families}
    lan, xdsl, lte, core = (capture.stop() for capture in captures)
    return [
        Recording(
            lab,
            family,
            transfer.sha256 == content.sha256,
            lan=of_family(lan, family),
            xdsl=of_family(xdsl, family),
            lte=lte,
            core=of_family(core, family),
        )
        for family, transfer in transfers.items()
    ]


def of_family(leg: Iterable[Captured], family: int) -> list[Captured]:
    wanted = AF_INET if family == 4 else AF_INET6
    return [captured for captured in leg if captured.segment.family == wanted]


def start_daemons(lab: Lab, *, cpe: Options = NONE, hag: Options = NONE, more: str = "") -> Daemon:
    """Starts both, `more` being for the CPE's configuration; gives the CPE's."""
    daemon = cpe_daemon(lab, cpe, more=more)
    hag_daemon(lab, hag).start()
    daemon.start()
    return daemon


@pytest.fixture(scope="module", params=[4, 6], ids=["IPv4", "IPv6"])
def bonded(request: pytest.FixtureRequest, lab_obstacle: str) -> Iterator[Recording]:
    if lab_obstacle:
        pytest.skip(lab_obstacle)
    with Lab(xdsl=ACCESS, lte=ACCESS) as lab:
        start_daemons(lab)
        yield from record(lab, request.param)


def source(segment: Segment) -> tuple[str, int]:
    return segment.source, segment.sport


def destination(segment: Segment) -> tuple[str, int]:
    return segment.destination, segment.dport


def syn(leg: Iterable[Captured]) -> Captured:
    """The one SYN of a leg."""
    (found,) = [captured for captured in leg if captured.segment.is_syn]
    return found


def syn_ack(leg: Iterable[Captured]) -> Captured:
    """The one SYN+ACK of a leg, which answers its SYN."""
    (found,) = [captured for captured in leg if captured.segment.is_syn_ack]
    request = syn(leg).segment
    assert (source(found.segment), destination(found.segment)) == (destination(request), source(request))
    assert found.segment.ack == (request.seq + 1) % 2**32
    return found


def third_ack(leg: Iterable[Captured]) -> Segment:
    """The segment with which the side that opened the connection completes the handshake."""
    opener = source(syn(leg).segment)
    segments = (captured.segment for captured in leg)
    return next(segment for segment in segments if source(segment) == opener and not segment.is_syn)


def mptcp(leg: Iterable[Captured]) -> list[Segment]:
    """Those segments of a leg that have an option of Multipath TCP."""
    segments = [captured.segment for captured in leg]
    return [one for one in segments if any(option.kind == OPTION_MPTCP for option in one.options)]


def keys(recording: Recording) -> tuple[bytes, bytes]:
    """Those of the CPE and of the HAG, as they tell each other in the third ACK."""
    capable = third_ack(recording.xdsl).mp_capable
    assert capable is not None
    assert capable.sender_key is not None
    assert capable.receiver_key is not None
    return capable.sender_key.to_bytes(8, "big"), capable.receiver_key.to_bytes(8, "big")


def payload(leg: Iterable[Captured], sender: str) -> int:
    """Bytes that an address has sent."""
    return sum(one.segment.payload_length for one in leg if one.segment.source == sender)


def test_client_leg_is_plain(bonded: Recording) -> None:
    request = syn(bonded.lan).segment
    assert request.source == bonded.lab.client.address("lan", bonded.family)
    assert destination(request) == bonded.server
    assert syn_ack(bonded.lan)
    assert mptcp(bonded.lan) == []


def test_xdsl_leg_opens_with_mp_capable(bonded: Recording) -> None:
    request, answer = syn(bonded.xdsl).segment, syn_ack(bonded.xdsl).segment
    assert source(request) == bonded.subscriber
    assert destination(request) == bonded.server
    assert request.mp_capable == MP_CAPABLE_SYN

    cpe_key, hag_key = (int.from_bytes(key, "big") for key in keys(bonded))
    assert answer.mp_capable == MpCapable(1, DENY_JOIN | 0x01, sender_key=hag_key, receiver_key=None)
    assert third_ack(bonded.xdsl).mp_capable == MpCapable(1, DENY_JOIN | 0x01, sender_key=cpe_key, receiver_key=hag_key)
    assert cpe_key != hag_key


def test_server_sees_the_subscriber_and_plain_tcp(bonded: Recording) -> None:
    request = syn(bonded.core).segment
    assert source(request) == bonded.subscriber
    assert destination(request) == bonded.server
    assert syn_ack(bonded.core)
    assert mptcp(bonded.core) == []


def test_nobody_answers_before_the_server(bonded: Recording) -> None:
    legs = (bonded.lan, bonded.xdsl, bonded.core)
    times = [syn(leg).time for leg in legs] + [syn_ack(leg).time for leg in reversed(legs)]
    assert times == sorted(times)


def test_one_round_trip(bonded: Recording) -> None:
    elapsed = (syn_ack(bonded.lan).time - syn(bonded.lan).time) / 1e9
    assert 1 <= elapsed / (2 * DELAY) < 1.5


def test_hag_announces_where_to_join(bonded: Recording) -> None:
    """From the server's address, over xDSL, and signed (RFC 8684, section 3.4.1).

    Over IPv6 too it is the IPv4 address: 30 bytes for an IPv6 address with a port do not fit beside timestamps.
    """
    cpe_key, hag_key = keys(bonded)
    told = announcements(bonded)
    assert (bonded.lab.hag.address("lte", 4), 9001) in [(one.address, one.port) for one in told]
    for one in told:
        assert one.port
        address = inet_pton(AF_INET6 if ":" in one.address else AF_INET, one.address)
        signed = bytes((one.address_id,)) + address + one.port.to_bytes(2, "big")
        assert one.hmac == hmac.digest(hag_key + cpe_key, signed, "sha256")[-8:]


def announcements(recording: Recording) -> list[AddAddr]:
    """The addresses that the server's side has announced on xDSL."""
    segments = (captured.segment for captured in recording.xdsl)
    told = (segment.add_addr for segment in segments if source(segment) == recording.server)
    return [one for one in told if one and not one.echo]


def test_lte_joins_where_the_hag_announced(bonded: Recording) -> None:
    request = syn(bonded.lte).segment
    assert request.source == bonded.lab.cpe.address("lte", 4 if request.family == AF_INET else 6)
    assert destination(request) in [(one.address, one.port) for one in announcements(bonded)]
    check_join(bonded)


def check_join(recording: Recording) -> None:
    """The handshake on LTE is by who knows the keys of the one on xDSL (RFC 8684, section 3.2)."""
    cpe_key, hag_key = keys(recording)
    request, answer = syn(recording.lte).segment.mp_join, syn_ack(recording.lte).segment.mp_join
    last = third_ack(recording.lte).mp_join
    assert request is not None
    assert answer is not None
    assert last is not None
    assert request.token == int.from_bytes(hashlib.sha256(hag_key).digest()[:4], "big")
    assert request.nonce is not None
    assert answer.nonce is not None
    nonces = [nonce.to_bytes(4, "big") for nonce in (request.nonce, answer.nonce)]
    assert answer.hmac == hmac.digest(hag_key + cpe_key, nonces[1] + nonces[0], "sha256")[:8]
    assert last.hmac == hmac.digest(cpe_key + hag_key, nonces[0] + nonces[1], "sha256")[:20]


def test_data_on_both_accesses(bonded: Recording) -> None:
    assert payload(bonded.xdsl, bonded.server[0])
    assert payload(bonded.lte, syn(bonded.lte).segment.destination)
    assert bonded.intact


def dissect(data: bytes) -> Any:
    """The packet as scapy reads it."""
    return IP(data) if data[0] >> 4 == 4 else IPv6(data)


def test_scapy_agrees(bonded: Recording) -> None:
    for captured in (*bonded.lan, *bonded.xdsl, *bonded.lte, *bonded.core):
        ours, theirs = captured.segment, dissect(captured.data)
        tcp = theirs[tcp_layer]
        assert (source(ours), destination(ours)) == ((theirs.src, tcp.sport), (theirs.dst, tcp.dport))
        assert (ours.seq, ours.ack, ours.flags, ours.window) == (tcp.seq, tcp.ack, int(tcp.flags), tcp.window)
        assert ours.payload_length == len(tcp.payload)
        options = [option.data for option in ours.options if option.kind == OPTION_MPTCP]
        assert options == [data for kind, data in tcp.options if kind == OPTION_MPTCP]


def test_scapy_reads_mp_capable_as_written_in_the_rfc(bonded: Recording) -> None:
    def option(captured: Captured) -> Any:
        (data,) = [data for kind, data in dissect(captured.data)[tcp_layer].options if kind == OPTION_MPTCP]
        return data

    _, hag_key = keys(bonded)
    assert option(syn(bonded.xdsl)) == bytes.fromhex("01 21")
    assert option(syn_ack(bonded.xdsl)) == bytes.fromhex("01 21") + hag_key


def test_checksums_on_the_accesses(bonded: Recording) -> None:
    assert all(checksums_ok(captured.data) for captured in (*bonded.xdsl, *bonded.lte))


def test_bypassed_connections_are_nowhere_touched() -> None:
    with Lab() as lab:
        cpe = start_daemons(lab, more=f"config bypass 'web'\n\tlist dport '{WebServer.PORT}'\n")
        recordings = record(lab, 4, 6)
        assert cpe.status()["counters"] == {"passed: bypass 'web'": 2}
    for unbonded in recordings:
        assert unbonded.intact
        for leg in (unbonded.lan, unbonded.xdsl, unbonded.core):
            assert destination(syn(leg).segment) == unbonded.server
            assert mptcp(leg) == []
        assert source(syn(unbonded.core).segment) == unbonded.subscriber
        assert unbonded.lte == []


def test_hag_takes_mp_capable_out_for_strangers() -> None:
    with Lab() as lab:
        start_daemons(lab, hag={"subscriber": ["192.0.2.0/24", "2001:db8:ffff::/48"]})
        recordings = record(lab, 4, 6)
    for unbonded in recordings:
        assert unbonded.intact
        check_option_taken_out(unbonded)
        assert mptcp(unbonded.xdsl) == [syn(unbonded.xdsl).segment]
        assert mptcp(unbonded.core) == []
        assert unbonded.lte == []


def check_option_taken_out(recording: Recording) -> None:
    """The server has got the CPE's own SYN but for the option: the HAG has opened nothing."""
    before, after = syn(recording.xdsl).segment, syn(recording.core).segment
    assert before.mp_capable == MP_CAPABLE_SYN
    assert (source(after), after.seq) == (source(before), before.seq)
    assert after.options == tuple(option for option in before.options if option.kind != OPTION_MPTCP)
    data = syn(recording.core).data
    assert checksums_ok(data)
    computed = dissect(data)
    del computed[tcp_layer].chksum
    assert bytes(computed) == data


def test_join_over_an_access_with_ipv6_only() -> None:
    with Lab(xdsl=ACCESS, lte=ACCESS) as lab:
        for node in (lab.cpe, lab.hag):
            node.run(["ip", "-4", "address", "flush", "dev", "lte"])
        hag_address = lab.hag.address("lte", 6)
        start_daemons(lab, cpe={"join_address": [hag_address]})
        (bonded,) = record(lab, 6)
    request = syn(bonded.lte).segment
    assert request.source == lab.cpe.address("lte", 6)
    assert destination(request) == (hag_address, 9001)
    check_join(bonded)
    assert payload(bonded.lte, hag_address)
    assert of_family(bonded.lte, 4) == []
    assert bonded.intact
