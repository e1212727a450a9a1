# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on a daemon that is killed: nobody may take what he has got so far for the whole."""

import socket

from lab.daemons import Daemon
from lab.fidelity.bench import Bench, equal, exchange, receive_all
from lab.fidelity.matrix import row


@row("8x", "a daemon is killed: its connections end with RST, busy or idle, and others begin")
def killed(bench: Bench) -> None:
    for daemon in (bench.cpe, bench.hag):
        ends_with_reset(bench, daemon)


def ends_with_reset(bench: Bench, daemon: Daemon) -> None:
    idle, half = bench.connect(), bench.connect()
    for ends in (idle, half):
        exchange(ends)
        bench.bonded(ends)
    half.client.shutdown(socket.SHUT_WR)
    equal("what the server receives", receive_all(half.server).ending, "FIN")
    daemon.kill_all()
    for name, sock in (("client", idle.client), ("server", idle.server), ("waiting client", half.client)):
        equal(f"the end for the {name} when {daemon.name} is killed", receive_all(sock).ending, "RST")
    exchange(bench.connect())
    daemon.start()
    again = bench.connect()
    exchange(again)
    bench.bonded(again)
