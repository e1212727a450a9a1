# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pair adds to the time in which a connection opens, against plain forwarding in the same run.

The client has two addresses: connections from the one on the LAN are bonded, those from the guest LAN are forwarded by
the same boxes untouched. Both are opened in turn.
"""

import statistics
from dataclasses import replace
from functools import partial

from lab.access import LTE, XDSL, Kind, Profile
from lab.bonded import Pair
from lab.connect import connect
from lab.errors import LabError
from lab.scenario import Bound, Figures, Progress, Scenario
from lab.servers import TcpServer

UNDELAYED = 200  # connections of each kind over accesses that add no delay of their own
DELAYED = 50
FURTHER = 8  # times the delay, so that a round trip is what takes longer than the daemons where they need tens of ms


def run(family: int, progress: Progress) -> Figures:
    progress(f"opening {UNDELAYED} connections over accesses without delay, IPv{family}")
    plain, bonded = measure(Pair(Kind.DIRECT), family, UNDELAYED)
    added = sorted(later - sooner for sooner, later in zip(plain, bonded, strict=True))
    return {
        "added_ms_p50": round(statistics.median(added), 3),
        "added_ms_p99": round(statistics.quantiles(added, n=100, method="inclusive")[98], 3),
        "plain_ms_p50": round(statistics.median(plain), 3),
        "bonded_ms_p50": round(statistics.median(bonded), 3),
        **delayed(family, progress),
    }


def delayed(family: int, progress: Progress, xdsl: Profile = XDSL, lte: Profile = LTE, count: int = DELAYED) -> Figures:
    progress(f"opening {count} connections over xDSL and LTE, IPv{family}")
    plain, bonded = measure(Pair(xdsl=xdsl, lte=lte), family, count)
    return {
        "rtts": round(statistics.median(bonded) / statistics.median(plain), 3),
        "delayed_plain_ms_p50": round(statistics.median(plain), 3),
        "delayed_bonded_ms_p50": round(statistics.median(bonded), 3),
    }


def measure(inside: Pair, family: int, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds that each connection took: plainly forwarded ones, bonded ones."""
    with inside as pair:
        server = TcpServer(pair.lab.server, "sink")
        times: dict[str, list[float]] = {"guest": [], "lan": []}
        for _ in range(count):
            for device, list_ in times.items():
                connection, milliseconds = connect(pair.lab, family, server.port, device)
                connection.close()
                list_.append(milliseconds)
        if pair.bonded() != count:
            raise LabError(f"{pair.bonded()} of {count} connections were bonded: {pair.cpe.status()['counters']}")
        return times["guest"], times["lan"]


def _further(profile: Profile) -> Profile:
    return replace(profile, delay=profile.delay * FURTHER)


SCENARIO = Scenario(
    name="handshake",
    summary="time to connect through the pair against plain forwarding",
    run=run,
    bounds=(Bound("added_ms_p50", at_most=1.5), Bound("rtts", at_most=1.15)),
    slow=Scenario(
        name="handshake",
        summary="time to connect through the pair against plain forwarding, over accesses further away",
        run=partial(delayed, xdsl=_further(XDSL), lte=_further(LTE), count=20),
        bounds=(Bound("rtts", at_most=1.5),),  # one round trip and not two: what the daemons need is the emulation's
    ),
)
