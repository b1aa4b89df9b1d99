"""The bench of half-sent requests, at a small size."""

from bench import half_open


def test_health_page_and_streams_are_measured_beside_half_open_clients(live_url):
    figures = half_open.measure(live_url.removeprefix("http://"), clients=20, streams=5, seconds=2.0)
    assert figures["half_open_clients"] == 20 and figures["sse_streams"] == 5
    assert figures["healthz_p99_ms"] >= figures["healthz_p50_ms"] > 0 and figures["page_p99_ms"] > 0
