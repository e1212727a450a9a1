# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on accesses, and paths behind them, that carry shorter packets than the LAN."""

import contextlib
import dataclasses
import hashlib
import socket
import threading
import time
from collections.abc import Iterator

from lab.access import LTE, WAYS, XDSL
from lab.bonded import Pair
from lab.fidelity.bench import BLOCK, Bench, Ends, Sending, Via, equal, exchange, expect, payload, sha256
from lab.fidelity.matrix import row

UP = 300_000  # bytes
DOWN = 800_000
XDSL_MTU = 1492  # bytes: PPPoE
LTE_MTU = 1420  # a tunnel in the mobile network
TOLD = 0.5  # seconds without a byte
NOT_TOLD = 3.0


def short() -> Pair:
    """The routers' own devices know."""
    return Pair(xdsl=dataclasses.replace(XDSL, mtu=XDSL_MTU), lte=dataclasses.replace(LTE, mtu=LTE_MTU))


class Receiving(threading.Thread):
    """Receives so many bytes in the background: their hash, and the longest time without one of them, in seconds."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        super().__init__(daemon=True)
        self._sock = sock
        self._missing = size
        self._digest = hashlib.sha256()
        self.pause = 0.0
        self.start()

    def run(self) -> None:
        before = time.monotonic()
        while self._missing and (block := self._sock.recv(min(BLOCK, self._missing))):
            now = time.monotonic()
            self.pause = max(self.pause, now - before)
            before = now
            self._digest.update(block)
            self._missing -= len(block)

    def finish(self) -> tuple[int, str]:
        """How many are missing, and the hash of the others."""
        self.join()
        return self._missing, self._digest.hexdigest()


def bulk(bench: Bench, stall: float) -> None:
    """One connection full upwards and one downwards: everything arrives, with no longer pause than that."""
    pairs = [bench.connect(), bench.connect()]
    ways = [(pairs[0].client, pairs[0].server, payload(UP, 1)), (pairs[1].server, pairs[1].client, payload(DOWN, 2))]
    sendings = [Sending(source, data) for source, _, data in ways]
    receivings = [Receiving(sink, len(data)) for _, sink, data in ways]
    for way, sending, receiving, (_, _, data) in zip(("up", "down"), sendings, receivings, ways, strict=True):
        equal(f"{way}: what is missing, and the hash", receiving.finish(), (0, sha256(data)))
        sending.finish()
        expect(receiving.pause <= stall, f"{way}: not a byte for {receiving.pause:.1f} s")
    for ends in pairs:
        bench.bonded(ends)


@contextlib.contextmanager
def narrow_paths(bench: Bench, *, told: bool) -> Iterator[None]:
    """Links behind the accesses have these MTUs, not the routers' devices. Afterwards the boxes have forgotten it."""
    accesses = bench.lab.accesses

    def too_big() -> int:
        return sum(access.stats()[way]["too_big"] for access in accesses for way in WAYS)

    before = too_big()
    for access, mtu in zip(accesses, (XDSL_MTU, LTE_MTU), strict=True):
        access.set(mtu=mtu, tells=told)
    try:
        yield
    finally:
        for access in accesses:
            access.set(mtu=None)
        for node in (bench.lab.cpe, bench.lab.hag):
            for family in ("-4", "-6"):
                node.run(["ip", family, "route", "flush", "cache"])
    expect(too_big() > before, "no packet was too long")


@row("10b", "segments are as long as without the pair")
def segment_size(bench: Bench) -> None:
    def sizes(via: Via) -> list[int]:
        ends: Ends = bench.connect(via)
        exchange(ends)
        return [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for sock in (ends.client, ends.server)]

    equal("the MSS of client and server", sizes("lan"), sizes("guest"))


@row("10c", "MTU 1492 and 1420 on the way, and nobody tells")
def black_hole(bench: Bench) -> None:
    with narrow_paths(bench, told=False):
        bulk(bench, NOT_TOLD)


@row("10d", "MTU 1492 and 1420 on the way, told by ICMP")
def path_mtu(bench: Bench) -> None:
    with narrow_paths(bench, told=True):
        bulk(bench, TOLD)


@row("10e", "MTU 1492 on xDSL and 1420 on LTE, of the devices", setup=short, slow=True)
def access_mtu(bench: Bench) -> None:
    segment_size(bench)
    bulk(bench, TOLD)
