# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparisons, tables and the plot, from results that were never measured."""

import pytest

from bench import report, scaling
from bench.__main__ import BEGIN, END, replaced
from bench.course import MANY, OPENING, SHORT
from bench.haproxy import Haproxy, HaproxyWithoutJoins
from bench.hybrid import Hybrid
from bench.peer import Peer
from bench.results import Results
from bench.scaling import OneOnBoth, OneOnHag, TwoOnBoth, TwoOnHag, Unlimited


@pytest.fixture
def results() -> Results:
    """Two rounds: the pair is twice as fast as HAProxy, but 1.5 times at the last measure, and so on."""
    found = Results()
    for speed in (1.0, 2.0):
        for measure in report.THROUGHPUT:
            ours = 3.0 if measure == report.THROUGHPUT[-1] else 4.0
            found.add(measure, Hybrid.name, {"gbit": ours * speed, "cpu_per_gb": 0.5})
            found.add(measure, Haproxy.name, {"gbit": 2.0 * speed, "cpu_per_gb": 1.0})
        found.add(SHORT, Hybrid.name, {"per_second": 900 * speed, "failed": 1, "connections": 2000})
        found.add(SHORT, HaproxyWithoutJoins.name, {"per_second": 1000 * speed, "failed": 7, "connections": 2000})
        found.add(
            OPENING, Hybrid.name, {"handshake_p50": 0.9, "handshake_p99": 2.0 * speed, "failed": 0, "connections": 10}
        )
        found.add(OPENING, Peer.name, {"handshake_p50": 0.1, "handshake_p99": 1.0 * speed, "failed": 0})
    found.add(MANY, Hybrid.name, {"per_second": 800, "failed": 2, "connections": 100_000})
    return found


def test_figures(results: Results) -> None:
    figures = report.figures(results)
    assert figures["throughput_vs_haproxy"] == 1.5  # the worst of the measures
    assert figures[f"throughput_vs_haproxy: {report.THROUGHPUT[0]}"] == [2, 2, 2]
    assert figures["cpu_per_gb_vs_haproxy"] == 0.5
    assert figures["conn_rate_vs_haproxy"] == 0.9
    assert figures["added_handshake_ms_p50"] == 0.8
    assert (figures["added_handshake_ms_p99"], figures["added_handshake_ms_p99: opening at half load"]) == (
        1.5,
        [1.5, 1, 2],
    )
    assert (figures["failed_connections"], figures["connections"]) == (4, 104_020)
    assert "throughput_vs_kernel_mptcp" not in figures  # not measured


def test_workers(results: Results) -> None:
    for speed in (1.0, 1.1):
        for kind, rate, idle in (
            (OneOnHag, 100, 0.7),
            (TwoOnHag, 190, 0.4),
            (OneOnBoth, 90, 0.6),
            (TwoOnBoth, 162, 0.2),
        ):
            sample = {"per_second": rate * speed, "idle": idle, "used_up": 0.99, "failed": 1, "connections": 500}
            results.add(scaling.SHORT, kind.name, sample)
        results.add(scaling.SHORT, Unlimited.name, {"per_second": 900, "idle": 0.0})
    figures = report.figures(results)
    assert figures["conn_rate_of_2_workers_vs_1"] == 1.8
    assert figures[f"conn_rate_of_2_workers_vs_1: {scaling.SHORT}, on the HAG"] == [1.9, 1.9, 1.9]
    assert "throughput_of_2_workers_vs_1" not in figures  # not measured
    assert (figures["failed_connections"], figures["connections"]) == (12, 108_020)
    assert report.workers_table(results).splitlines() == [
        "| each worker with 10% of a processor | 1 worker | 2 workers | 2 by 1 | share used up | machine idle"
        " | 2 workers on each box, no quota |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| short connections per second, workers on the HAG | 105 (100 … 110) | 200 (190 … 209) | 1.90 (1.90 … 1.90)"
        " | 99% / 99% | 70% / 40% | 900 (900 … 900) |",
        "| short connections per second, workers on each box | 94 (90 … 99) | 170 (162 … 178) | 1.80 (1.80 … 1.80)"
        " | 99% / 99% | 60% / 20% | 900 (900 … 900) |",
    ]
    assert report.tables(results).splitlines()[0].count("|") == 6  # the workers have a table of their own


def test_the_dearest_measure_counts(results: Results) -> None:
    results.samples[report.THROUGHPUT[2]][Hybrid.name] = [{"gbit": 4, "cpu_per_gb": 1.25}] * 2
    assert report.figures(results)["cpu_per_gb_vs_haproxy"] == 1.25


def test_tables(results: Results) -> None:
    lines = report.tables(results).splitlines()
    assert lines[0] == "| median (lowest … highest) | hybrid-access | HAProxy | HAProxy, no joins | plain forwarding |"
    assert "| 1 flow down, Gbit/s | 6.0 (4.0 … 8.0) | 3.0 (2.0 … 4.0) |  |  |" in lines
    assert "| short connections per second | 1350 (900 … 1800) |  | 1500 (1000 … 2000) |  |" in lines
    assert "| conn_rate_vs_haproxy | 0.9 | 0.90 (0.90 … 0.90) |" in lines
    assert lines[-1] == "4 of 104020 short connections through the pair failed."
    assert not any("kernel" in line or "LTE" in line for line in lines)


def test_plot(results: Results) -> None:
    blocks = report.plot(results, width=20).split("\n\n")
    assert blocks[0].splitlines() == [
        "1 flow down, Gbit/s",
        "  hybrid-access  ████████████████████  6.0",
        "  HAProxy        ██████████            3.0",
    ]
    assert len(blocks) == 5


def test_replaced() -> None:
    document = f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe rest.\n"
    new = replaced(document, "new")
    assert new == f"# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\nThe rest.\n"
    assert replaced(new, "new") == new
    with pytest.raises(ValueError, match="measured"):
        replaced("nothing of the kind", "new")


def test_what_came_to_nothing_is_told(results: Results) -> None:
    assert "Made again" not in report.tables(results)
    results.again = {"50 flows down, HAProxy": 2}
    assert report.tables(results).endswith(
        "Made again, since flows stood still or did not join: 50 flows down, HAProxy: 2."
    )
