# SPDX-License-Identifier: GPL-2.0-or-later
"""How cost grows: what was measured of each box, and what a larger gateway carries by that. Pure."""

from dataclasses import dataclass

from bench import costs, idle, rest
from bench.hybrid import Hybrid
from bench.report import markdown
from bench.results import Results, Sample

CORES = 16
MEMORY = 64e9  # bytes
MAY_BE_TAKEN = 0.6  # of the cores, and of the memory: what comes in bursts has the rest


@dataclass(frozen=True, slots=True)
class Use:
    """What one subscriber does in the busy hour. Assumptions: none of them is measured.

    `flows` open connections, a share of which is `active` and has `queued` bytes on the box; `fresh` new ones a second,
    and `mbit` of payload a second, both ways together.
    """

    flows: float = 40
    active: float = 0.05
    queued: float = 250e3
    fresh: float = 0.2
    mbit: float = 2.0


BUSY_HOUR = Use()

HEAD = (
    "CPE, HAG",
    "MiB of all processes",
    "bytes for each flow",
    "for each further one",
    "CPU, % of a core",
    "ends of pipes",
    "bytes of the kernel, both boxes and both ends",
)


@dataclass(frozen=True, slots=True)
class Price:
    """Of the gateway: bytes for an idle flow, seconds of one core for a flow from its SYN to its end, and for a GB."""

    memory: float
    flow: float
    gb: float


def charged(results: Results) -> Price:
    """What the kernel charges its processes. ValueError if that was not measured."""
    flows, box = _samples(results)
    gb = max(box["hag_down_gb_s"], box["hag_up_gb_s"])
    return Price(flows["hag_bytes"] + flows["kernel_bytes"] / 2, box["hag_flow_us"] / 1e6, gb)


def careful(results: Results) -> Price:
    """Half of all that the machine has spent while it was both boxes and both ends.

    The kernel charges much of its work on packets to whoever runs at that moment.
    """
    flows, box = _samples(results)
    gb = max(box["machine_down_gb_s"], box["machine_up_gb_s"]) / 2
    return Price(flows["hag_bytes"] + flows["kernel_bytes"] / 2, box["machine_flow_us"] / 2e6, gb)


def subscribers(price: Price, use: Use = BUSY_HOUR) -> tuple[float, float]:
    """How many of them take as much as may be taken of the processors, and of the memory."""
    seconds = use.fresh * price.flow + use.mbit / 8e3 * price.gb
    memory = use.flows * (price.memory + use.active * use.queued)
    return CORES * MAY_BE_TAKEN / seconds, MEMORY * MAY_BE_TAKEN / memory


def tables(results: Results) -> str:
    flows, box = _samples(results)
    resting = results.samples[rest.NAME][Hybrid.name][-1]
    at_rest = [
        ["from start to ready, s", *_two(resting, "ready_s", 2)],
        ["MiB of all processes", *_two(resting, "mib", 1)],
        ["wake-ups a second", *_two(resting, "wakeups", 1)],
        ["CPU, % of a core", *_two(resting, "cpu", 2)],
    ]
    crowds = [[measure, *_crowd(results.samples[measure][Hybrid.name][-1])] for measure in _crowds(results)]
    measured = [
        ["CPU of its processes for a flow from SYN to end, µs", *_two(box, "flow_us", 0)],
        ["for a SYN that passes unbonded, µs", f"{box['cpe_pass_us']:.0f}", "none: its rules pass it"],
        ["for a GB down, s", *_two(box, "down_gb_s", 2)],
        ["for a GB up, s", *_two(box, "up_gb_s", 2)],
    ]
    whole = [
        ["CPU for a flow from SYN to end, µs", f"{box['machine_flow_us']:.0f}"],
        ["CPU for a GB down, s", f"{box['machine_down_gb_s']:.2f}"],
        ["CPU for a GB up, s", f"{box['machine_up_gb_s']:.2f}"],
    ]
    prices = (charged(results), careful(results))
    carried = [
        ["new flows a second", *(f"{CORES * MAY_BE_TAKEN / price.flow:.0f}" for price in prices)],
        ["or Gbit/s", *(f"{CORES * MAY_BE_TAKEN / price.gb * 8:.0f}" for price in prices)],
        [
            "or idle flows, by memory",
            *(f"{MEMORY * MAY_BE_TAKEN / price.memory / 1e6:.1f} million" for price in prices),
        ],
        ["subscribers, by processors", *(f"{subscribers(price)[0]:.0f}" for price in prices)],
        ["subscribers, by memory", *(f"{subscribers(price)[1]:.0f}" for price in prices)],
    ]
    beside = results.samples[idle.SLOW_FLOWS][Hybrid.name][-1]
    failed, probes = beside["failed"], beside["connections"] + beside["failed"]
    words = (
        f"While {idle.SLOW} of them said something, one after the other, {idle.PACE:.0f} times a second, new "
        f"connections got their first byte after {beside['answered_p50']:.1f} ms (p50), {beside['answered_p99']:.1f} "
        f"ms (p99); {failed:.0f} of {probes:.0f} failed. Then all {flows['flows']:.0f} were asked, and answered."
    )
    return "\n\n".join(
        (
            markdown(["as configured by default, with nothing to do", "CPE", "HAG"], at_rest),
            markdown(HEAD, crowds),
            words,
            markdown(["of each box", "CPE", "HAG"], measured),
            markdown(["of the whole machine, which was both boxes, the client and the server", "all of it"], whole),
            markdown([f"a HAG of {CORES} cores carries", "by what is charged", "by half of the machine"], carried),
        )
    )


def _samples(results: Results) -> tuple[Sample, Sample]:
    """Of the largest crowd, and of each box. ValueError if they were not measured."""
    crowds = _crowds(results)
    if not crowds or costs.NAME not in results.samples:
        raise ValueError("what a box takes was not measured")
    return results.samples[crowds[-1]][Hybrid.name][-1], results.samples[costs.NAME][Hybrid.name][-1]


def _crowds(results: Results) -> list[str]:
    return [measure for measure in results.samples if measure.endswith(" idle flows")]


def _crowd(sample: Sample) -> list[str]:
    """A row below HEAD; the first one is of no flow at all."""
    cells = [f"{sample['cpe_mib']:.1f}, {sample['hag_mib']:.1f}"]
    for figure, digits in (("bytes", 0), ("further_bytes", 0), ("idle_cpu", 2), ("pipes", 0)):
        cells.append(", ".join(_two(sample, figure, digits)) if f"cpe_{figure}" in sample else "")
    return [*cells, f"{sample['kernel_bytes']:.0f}" if "kernel_bytes" in sample else ""]


def _two(sample: Sample, figure: str, digits: int) -> list[str]:
    return [f"{sample[f'{box}_{figure}']:.{digits}f}" for box in costs.BOXES]
