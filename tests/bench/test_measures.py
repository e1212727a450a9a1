# SPDX-License-Identifier: GPL-2.0-or-later
"""What the load generators say, read."""

import pytest

from bench import opening, short, throughput
from bench.cpu import Spent
from lab.errors import LabError

AB = """\
Server Software:        nginx/1.22.1
Document Length:        1024 bytes

Concurrency Level:      50
Time taken for tests:   1.001 seconds
Complete requests:      2500
Failed requests:        {failed}
   (Connect: 0, Receive: 2, Length: 0, Exceptions: 0)
Total transferred:      3145000 bytes
HTML transferred:       {size} bytes
Requests per second:    2497.50 [#/sec] (mean)
Time per request:       20.020 [ms] (mean)
"""


def test_short_connections() -> None:
    said = AB.format(failed=2, size=2498 * 1024)
    assert short.figures(said, Spent(0.5, 9, 9)) == {
        "per_second": 2497.5,
        "connections": 2500,
        "failed": 2,
        "cpu_us": 200.0,
    }
    refused = said + "Non-2xx responses:      3\n"
    assert short.figures(refused, Spent(0, 0, 0))["failed"] == 5


@pytest.mark.parametrize("said", ["", "apr_socket_recv: Connection refused (111)", AB.format(failed=0, size=1024)])
def test_short_connections_that_were_not_measured(said: str) -> None:
    with pytest.raises(LabError):
        short.figures(said, Spent(0, 0, 0))


def test_throughput() -> None:
    report = {"end": {"sum_received": {"bytes": 2_000_000_000, "bits_per_second": 16e9}}}
    assert throughput.figures(report, Spent(1.0, 4.0, 1.0)) == {
        "gb": 2.0,
        "gbit": 16.0,
        "cpu_per_gb": 0.5,
        "machine_cpu_per_gb": 2.0,
        "softirq_share": 0.25,
    }


def test_opening() -> None:
    times = {"handshake": [float(ms) for ms in range(101)], "answered": [5.0, 5.0]}
    assert opening.figures(times, failed=1) == {
        "handshake_p50": 50,
        "handshake_p99": 99,
        "answered_p50": 5,
        "answered_p99": 5,
        "connections": 101,
        "failed": 1,
    }
    assert opening.quantile([3.0], 99) == 3
