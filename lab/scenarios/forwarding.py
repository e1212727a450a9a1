# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain forwarding over xDSL, without any daemon: what bonding is measured against."""

from lab.scenario import Bound, Figures, Progress, Scenario
from lab.servers import WebServer
from lab.topology import Lab
from lab.transfer import download

SIZE = 12_000_000  # bytes: five seconds of the access


def run(family: int, progress: Progress) -> Figures:
    progress("building the lab")
    with Lab() as lab:
        web = WebServer(lab.server)
        content = web.publish("file", SIZE)
        progress(f"downloading {SIZE / 1e6:g} MB over IPv{family}")
        transfer = download(lab.client, web.url("file", family))
        return {
            "connect_ms": round(transfer.connected * 1000, 2),
            "download_mbit": round(transfer.rate / 1e6, 2),
            "share_of_rate": round(transfer.rate / lab.xdsl.profile.rate_down, 4),
            "intact": transfer.sha256 == content.sha256,
            "rates": lab.rates("down"),
        }


SCENARIO = Scenario(
    name="forwarding",
    summary="one download over xDSL alone, without the daemons",
    run=run,
    bounds=(
        Bound("connect_ms", at_least=30, at_most=35),
        Bound("share_of_rate", at_least=0.91, at_most=0.97),  # headers take 3.5 % (IPv4) or 4.8 % (IPv6)
        Bound("intact", at_least=1),
    ),
)
