# SPDX-License-Identifier: GPL-2.0-or-later
"""A row on SYNs that are sent again because nobody has answered yet."""

import json
import threading
import time

from lab.fidelity.bench import Bench, Ends, Via, equal, exchange, expect
from lab.fidelity.matrix import row

LOST = 0.5  # seconds in which the server loses every SYN: the first one, whose copy comes after a second (RFC 6298)
SLACK = 0.050  # seconds that connecting may take longer than without the pair

SERVER = """\
table inet copies {{
	chain input {{
		type filter hook prerouting priority raw; policy accept;
		tcp dport {port} tcp flags & (syn | ack) == syn counter
	}}
	chain lost {{
		type filter hook prerouting priority raw + 1; policy accept;
		tcp dport {port} tcp flags & (syn | ack) == syn drop
	}}
}}
"""


@row("3x", "a SYN gets lost: the server sees one copy of it, as without the pair")
def one_copy(bench: Bench) -> None:
    plain, plain_time = copies(bench, "guest")
    bonded, bonded_time = copies(bench, "lan")
    equal("SYNs that reach the server without the pair", plain, 2)
    equal("SYNs that reach the server", bonded, plain)
    expect(bonded_time - plain_time <= SLACK, f"{bonded_time * 1000:.0f} ms instead of {plain_time * 1000:.0f}")


def copies(bench: Bench, via: Via) -> tuple[int, float]:
    """SYNs that reached the server for one connection, and the seconds until it was there."""
    server, listener = bench.lab.server, bench.listen()
    server.run(["nft", "-f", "-"], text=SERVER.format(port=listener.getsockname()[1]))
    mending = threading.Timer(LOST, lambda: server.run(["nft", "flush", "chain", "inet", "copies", "lost"]))
    mending.start()
    try:
        client = bench.client(via)
        began = time.monotonic()
        client.connect(listener.getsockname()[:2])
        took = time.monotonic() - began
        mending.join()
        ends = Ends(client, listener.accept()[0])
        bench.undo(ends.server.close)
        exchange(ends)
        if via == "lan":
            bench.bonded(ends)
        rules = json.loads(server.run(["nft", "--json", "list", "chain", "inet", "copies", "input"]).stdout)["nftables"]
    finally:
        mending.cancel()
        mending.join()
        server.run(["nft", "delete", "table", "inet", "copies"])
    (counted,) = [
        part["counter"]["packets"] for it in rules for part in it.get("rule", {}).get("expr", []) if "counter" in part
    ]
    return counted, took
