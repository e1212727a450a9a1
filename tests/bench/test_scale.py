# SPDX-License-Identifier: GPL-2.0-or-later
"""From what a box takes to what a larger one carries."""

import pytest

from bench import costs, idle, rest, scale
from bench.cpu import Usage
from bench.footprint import Footprint
from bench.hybrid import Hybrid
from bench.idle import Look
from bench.results import Results
from bench.scale import Price, Use

BOX = {
    **{f"{box}_flow_us": 400.0 for box in costs.BOXES},
    **{f"{box}_{way}_gb_s": 0.5 for box in costs.BOXES for way in ("down", "up")},
    "cpe_pass_us": 100.0,
    "machine_flow_us": 1000.0,
    "machine_down_gb_s": 2.0,
    "machine_up_gb_s": 3.0,
}


def look(memory: int, cpu: float, wakeups: int = 0, slab: int = 0) -> Look:
    boxes = {box: Footprint(2 * memory, memory, 0, wakeups) for box in costs.BOXES}
    return Look(boxes, {box: Usage({7: cpu}, 10 * cpu, cpu) for box in costs.BOXES}, slab)


def test_figures_of_a_crowd() -> None:
    empty, before = look(1_000_000, 1.0), look(2_000_000, 2.0)
    opened, waited = look(2_700_000, 3.5, 10, 5_000_000), look(2_800_000, 3.55, 20, 6_000_000)
    sample = idle.figures(empty, before, opened, waited, flows=1000, more=500)
    for box in costs.BOXES:
        assert sample[f"{box}_bytes"] == 1800
        assert sample[f"{box}_further_bytes"] == 1600
        assert sample[f"{box}_open_us"] == pytest.approx(3000)
        assert sample[f"{box}_idle_cpu"] == pytest.approx(0.05 / idle.WATCHED * 100)
        assert sample[f"{box}_wakeups"] == 10 / idle.WATCHED
    assert sample["kernel_bytes"] == 6000


@pytest.fixture
def results() -> Results:
    results = Results()
    empty, later = look(1 << 20, 1.0), look(3 << 20, 2.0, slab=30_000_000)
    results.add(idle.name(0), Hybrid.name, idle.resident(empty))
    for flows in (500, 1000):
        results.add(idle.name(flows), Hybrid.name, idle.figures(empty, empty, later, later, flows, flows))
    results.add(idle.SLOW_FLOWS, Hybrid.name, {"answered_p50": 1, "answered_p99": 9, "connections": 80, "failed": 1})
    results.add(costs.NAME, Hybrid.name, BOX)
    rests = {"ready_s": 0.25, "mib": 21.0, "wakeups": 5.0, "cpu": 0.1}
    results.add(rest.NAME, Hybrid.name, {f"{box}_{name}": it for box in costs.BOXES for name, it in rests.items()})
    return results


def test_prices(results: Results) -> None:
    memory = (2 << 20) / 1000 + 15_000
    assert scale.charged(results) == Price(memory, 400e-6, 0.5)
    assert scale.careful(results) == Price(memory, 500e-6, 1.5)


def test_subscribers() -> None:
    """16 cores, of which 60 % may be taken: 9.6 seconds a second; and 38.4 GB."""
    use = Use(flows=10, active=0.1, queued=100e3, fresh=1.0, mbit=8.0)
    assert scale.subscribers(Price(memory=2000, flow=600e-6, gb=0.6), use) == pytest.approx((8000, 320_000))


def test_tables(results: Results) -> None:
    text = scale.tables(results)
    assert "| 1000 idle flows | 3.0, 3.0 | 2097, 2097 | 2097, 2097 | 0.00, 0.00 | 0, 0 | 30000 |" in text
    assert "| from start to ready, s | 0.25 | 0.25 |" in text
    assert "| 0 idle flows | 1.0, 1.0 |  |  |  |  |  |" in text
    assert "1 of 81 failed. Then all 1000 were asked, and answered." in text
    assert "| new flows a second | 24000 | 19200 |" in text
    assert "| or Gbit/s | 154 | 51 |" in text


def test_what_was_not_measured() -> None:
    with pytest.raises(ValueError, match="was not measured"):
        scale.tables(Results())
