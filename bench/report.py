# SPDX-License-Identifier: GPL-2.0-or-later
"""Results as figures for programs, as tables in Markdown, and as a plot of characters. Pure."""

from collections.abc import Sequence
from typing import Any

from bench import scaling
from bench.course import MANY, OPENING, SHORT, throughput_measure
from bench.haproxy import Haproxy, HaproxyWithoutJoins
from bench.hybrid import Hybrid
from bench.kernel_mptcp import KernelMptcp
from bench.peer import Peer
from bench.results import Results, Spread
from lab.access import WAYS

OURS = Hybrid.name
THROUGHPUT = tuple(throughput_measure(flows, way) for flows in (1, 50) for way in WAYS)

# what a row is called, measure, figure, digits
Row = tuple[str, str, str, int]
ROWS: tuple[Row, ...] = (
    *((f"{measure}, Gbit/s", measure, "gbit", 1) for measure in THROUGHPUT),
    *((f"{measure}, CPU s of the boxes per GB", measure, "cpu_per_gb", 2) for measure in THROUGHPUT),
    *((f"{measure}, CPU s of the machine per GB", measure, "machine_cpu_per_gb", 2) for measure in THROUGHPUT),
    *((f"{measure}, of that in softirqs", measure, "softirq_share", 2) for measure in THROUGHPUT),
    *((f"{measure}, share of LTE", measure, "lte_share", 2) for measure in THROUGHPUT),
    ("short connections per second", SHORT, "per_second", 0),
    ("a short connection, CPU µs of the boxes", SHORT, "cpu_us", 0),
    ("handshake at half load, ms p50", OPENING, "handshake_p50", 2),
    ("handshake at half load, ms p99", OPENING, "handshake_p99", 2),
    ("first byte at half load, ms p50", OPENING, "answered_p50", 2),
    ("first byte at half load, ms p99", OPENING, "answered_p99", 2),
)

# what a comparison is called, the peer, the measures, the figure, which end of them is the one that counts
RATIOS = (
    ("throughput_vs_haproxy", Haproxy.name, THROUGHPUT, "gbit", min),
    ("throughput_vs_kernel_mptcp", KernelMptcp.name, THROUGHPUT, "gbit", min),
    ("cpu_per_gb_vs_haproxy", Haproxy.name, THROUGHPUT, "cpu_per_gb", max),
    ("machine_cpu_per_gb_vs_haproxy", Haproxy.name, THROUGHPUT, "machine_cpu_per_gb", max),
    ("conn_rate_vs_haproxy", HaproxyWithoutJoins.name, (SHORT,), "per_second", min),
    ("conn_rate_vs_joining_haproxy", Haproxy.name, (SHORT,), "per_second", min),
)
# what it is called, the measures, the figure: of two workers by that of one
SCALINGS = (
    ("conn_rate_of_2_workers_vs_1", (scaling.SHORT,), "per_second"),
    ("throughput_of_2_workers_vs_1", scaling.THROUGHPUT, "gbit"),
)
DIFFERENCES = (
    ("added_handshake_ms_p50", "handshake_p50"),
    ("added_handshake_ms_p99", "handshake_p99"),
)


def figures(results: Results) -> dict[str, Any]:
    """Each comparison's worst median over its measures, then the spread of each measure; failed connections."""
    worst: dict[str, Any] = {}
    each: dict[str, Any] = {}
    for name, peer, measures, figure, end in RATIOS:
        found = {measure: results.ratio(measure, OURS, peer, figure) for measure in measures}
        spreads = {measure: spread for measure, spread in found.items() if spread}
        if not spreads:
            continue
        worst[name] = round(end(spread.median for spread in spreads.values()), 3)
        for measure, spread in spreads.items():
            each[f"{name}: {measure}"] = _three(spread)
    for name, measures, figure in SCALINGS:
        found = {
            f"{measure}, {where}": results.ratio(measure, two.name, one.name, figure)
            for measure in measures
            for where, one, two in scaling.PAIRS
        }
        if spreads := {measure: spread for measure, spread in found.items() if spread}:
            worst[name] = round(min(spread.median for spread in spreads.values()), 3)
            each |= {f"{name}: {measure}": _three(spread) for measure, spread in spreads.items()}
    for name, figure in DIFFERENCES:
        if added := results.difference(OPENING, OURS, Peer.name, figure):
            worst[name] = round(added.median, 3)
            each[f"{name}: {OPENING}"] = _three(added)
    for name, figure in (("failed_connections", "failed"), ("connections", "connections")):
        ours = sum(results.total(measure, OURS, figure) for measure in (SHORT, OPENING, MANY))
        worst[name] = int(ours + sum(results.total(scaling.SHORT, kind.name, figure) for kind in scaling.KINDS))
    return worst | each


def tables(results: Results) -> str:
    """What was measured, peer by peer, and what follows for the pair."""
    measures = dict.fromkeys(measure for _title, measure, _figure, _digits in ROWS)
    peers = list(dict.fromkeys(peer for measure in measures for peer in results.peers(measure)))
    measured = []
    for title, measure, figure, digits in ROWS:
        cells = [_cell(results.spread(measure, peer, figure), digits) for peer in peers]
        if any(cells):
            measured.append([title, *cells])
    found = figures(results)
    compared = [
        [name, str(value), _range(results, name)]
        for name, value in found.items()
        if not isinstance(value, list) and name not in ("failed_connections", "connections")
    ]
    workers = workers_table(results)
    words = f"{found['failed_connections']} of {found['connections']} short connections through the pair failed."
    if results.again:
        told = "; ".join(f"{name}: {times}" for name, times in results.again.items())
        words += f" Made again, since flows stood still or did not join: {told}."
    return "\n\n".join(
        (
            markdown(["median (lowest … highest)", *peers], measured),
            markdown(
                ["the pair against the others", "worst median", "by measure: median (lowest … highest)"], compared
            ),
            *([workers] if workers else []),
            words,
        )
    )


def workers_table(results: Results) -> str:
    """One worker beside two, with what says that nothing else is the limit; empty if that was not measured."""
    rows = []
    for measure, figure, unit, digits in (
        (scaling.SHORT, "per_second", "per second", 0),
        *((measure, "gbit", "Gbit/s", 2) for measure in scaling.THROUGHPUT),
    ):
        for where, one, two in scaling.PAIRS:
            if not (ratio := results.ratio(measure, two.name, one.name, figure)):
                continue
            cells = [_cell(results.spread(measure, kind.name, figure), digits) for kind in (one, two)]
            idle, used_up = (
                " / ".join(_percent(results.spread(measure, kind.name, share)) for kind in (one, two))
                for share in ("idle", "used_up")
            )
            free = _cell(results.spread(measure, scaling.Unlimited.name, figure), digits)
            title = f"{measure.partition(',')[0]} {unit}, workers {where}"
            rows.append([title, *cells, _cell(ratio, 2), used_up, idle, free])
    head = f"each worker with {scaling.SHARE:.0%} of a processor"
    columns = ("1 worker", "2 workers", "2 by 1", "share used up", "machine idle", scaling.Unlimited.name)
    return markdown([head, *columns], rows) if rows else ""


def _range(results: Results, name: str) -> str:
    found = figures(results)
    parts = []
    for key, value in found.items():
        comparison, _, measure = key.partition(": ")
        if comparison == name and measure:
            median, low, high = value
            label = "" if measure in (SHORT, OPENING) else f"{measure} "
            parts.append(f"{label}{median:.2f} ({low:.2f} … {high:.2f})")
    return "; ".join(parts)


def plot(results: Results, width: int = 40) -> str:
    """Bars: throughput of each peer by measure, and short connections; a measure's longest bar is `width` wide."""
    blocks = []
    for title, measure, figure, digits in ROWS:
        if figure not in ("gbit", "per_second"):
            continue
        bars = {peer: results.spread(measure, peer, figure) for peer in results.peers(measure)}
        medians = {peer: spread.median for peer, spread in bars.items() if spread}
        if not medians:
            continue
        label, most = max(map(len, medians)), max(medians.values())
        lines = [
            f"  {peer:<{label}}  {'█' * round(value / most * width):<{width}}  {value:.{digits}f}"
            for peer, value in medians.items()
        ]
        blocks.append("\n".join([title, *lines]))
    return "\n\n".join(blocks)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f} … {spread.high:.{digits}f})"


def _percent(spread: Spread | None) -> str:
    return f"{spread.median:.0%}" if spread else ""


def _three(spread: Spread) -> list[float]:
    return [round(value, 3) for value in (spread.median, spread.low, spread.high)]
