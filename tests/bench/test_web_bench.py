"""The web bench, at a small size."""

import shutil

from bench import web
from tests.real import ROOT, redis_server

SMALL = web.Size(remembered=40, requests=6, streams=5, seconds=2.0)


def test_the_load_has_prompts_that_memory_answers(tmp_path, tiny_models):
    redis_server(tmp_path / "redis")  # without Redis the test is skipped, or fails in CI
    shutil.copytree(ROOT / "var" / "text", tmp_path / "text")
    prompts = web.remember(tmp_path, tiny_models, SMALL)
    assert len(prompts) == 6 and len(list((tmp_path / "pictures").rglob("*.png"))) == 40


def test_answers_polls_and_streams_are_measured(live_url):
    address = live_url.removeprefix("http://")
    job = web.paint_one_job(address)
    assert web.time_hit(address, "a red fox in the snow") > 0
    streams = web.Streams(address, SMALL)
    assert web.count_polls(address, job, 1.0) > 0
    results = streams.end()
    assert results["sse_streams"] == 5 and results["sse_events_each"] >= 2


def test_a_stream_without_a_server_is_not_counted(unused_port):
    streams = object.__new__(web.Streams)
    streams.address, streams.paths, streams.until = f"127.0.0.1:{unused_port}", ["/api/v1/jobs/1"], float("inf")
    streams.size, streams.events, streams.broken, streams.threads = web.Size(streams=1), [0], [], []
    streams.lock = web.threading.Lock()
    streams.hold_stream(0)
    assert streams.end()["sse_streams"] == 0
