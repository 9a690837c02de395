"""Four times more requests than can be served, over real connections, with a model whose speed is known."""

import json

import pytest

from benchmarks.gateway_load import CAPACITY, WAITING, measure, of_status, p95
from benchmarks.gateway_overhead import measure_latencies, measure_rate, percentile
from benchmarks.null_model import PLACES, write_repository
from benchmarks.served import served

pytestmark = pytest.mark.server


@pytest.mark.parametrize("seconds", [4.0, pytest.param(30.0, marks=pytest.mark.full)])
def test_a_crowd_is_told_to_come_back_and_harms_nobody(seconds):
    report = measure(seconds, times=4.0)
    served, refused = of_status(report.crowded, 200), of_status(report.crowded, 429)
    assert len(served) + len(refused) == len(report.crowded), "only served or refused"
    assert report.served_per_second > 0.7 * CAPACITY
    # Whoever waits, waits for at most WAITING others; the rest is for the work that refusing takes.
    assert report.slowdown < 1 + WAITING / PLACES + 1
    assert len(refused) > len(served)
    for answer in refused:
        assert json.loads(answer.body)["error"]["code"] == "rate_limit_exceeded"
        assert answer.retry_after is not None
        assert 1 <= int(answer.retry_after) <= 5
    assert p95(refused) < 0.5
    for answer in served:
        assert answer.body.startswith(b"RIFF")


@pytest.mark.full
def test_the_gateway_adds_little(tmp_path):
    write_repository(tmp_path)
    with served(tmp_path, {}) as addresses:
        latencies = measure_latencies(addresses.triton, addresses.gateway, requests=200)
        rate, _ = measure_rate(addresses.gateway, connections=8, seconds=10.0)
    assert percentile(latencies["HTTP, wav"], 50) - percentile(latencies["gRPC"], 50) < 3.0
    assert 60 * rate > 2000
