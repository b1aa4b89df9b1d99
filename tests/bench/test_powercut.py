"""The bench of power cuts counts what is gone, and says who may run it."""

import random
import sys
import time
import urllib.request

import pytest

from bench import powercut
from bench.powercut import LAST_SECONDS, PowerCuts, forget


def test_only_root_may_run_it(monkeypatch, capsys):
    monkeypatch.setattr(powercut.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["powercut", "--cuts", "1"])
    with pytest.raises(SystemExit) as ended:
        powercut.main()
    assert ended.value.code == 2 and "only root may do" in capsys.readouterr().err


def test_what_is_gone_is_counted_once():
    notes = {"a": 1.0, "b": 2.0}
    assert forget(notes, lambda name: name == "a") == [2.0] and notes == {"a": 1.0}
    assert forget(notes, lambda name: name == "a") == []


def test_losses_of_the_last_second_are_counted_apart(tmp_path, monkeypatch):
    bench = PowerCuts(tmp_path, tmp_path, random.Random(1))
    cut = time.monotonic()
    bench.acknowledged.jobs = {"early": cut - 10, "late": cut - LAST_SECONDS / 2, "kept": cut - 20}
    bench.acknowledged.pictures = {"a" * 32: cut - 10}
    bench.acknowledged.webhooks = {"early": cut - 10, "kept": cut - 20}
    for name, value in (("wait_for_index", 2), ("stored_keys", set()), ("labels", set()), ("count_doubles", 1)):
        monkeypatch.setattr(bench, name, lambda value=value: value)
    monkeypatch.setattr(bench, "known_keys", set)
    monkeypatch.setattr(bench, "knows_job", lambda job: job == "kept")
    bench.count_losses(cut)
    counted = {name: bench.results[name] for name in ("pictures_lost", "jobs_lost", "in_last_second", "index_behind")}
    assert counted == {"pictures_lost": 1, "jobs_lost": 1, "in_last_second": 1, "index_behind": 2}
    assert bench.results["oldest_lost_ms"] == 750 and bench.acknowledged.webhooks == {"kept": cut - 20}
    bench.receiver.close()


def test_what_is_acknowledged_is_counted_by_its_kind_and_a_refused_request_ends_the_bench(tmp_path, monkeypatch):
    bench = PowerCuts(tmp_path, tmp_path, random.Random(1))
    bench.note(bench.acknowledged.keys, "ada")
    bench.note(bench.acknowledged.keys, "ada")
    bench.url = bench.receiver.url.rstrip("/")  # which knows no GET
    assert bench.counts == {"keys": 1}
    with pytest.raises(RuntimeError, match="GET /healthz was refused"):
        bench.send("GET", "/healthz")
    bench.receiver.close()


def test_a_webhook_that_came_is_not_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(powercut, "WEBHOOK_SECONDS", 0)
    bench = PowerCuts(tmp_path, tmp_path, random.Random(1))
    bench.acknowledged.webhooks = {"came": 1.0, "lost": 2.0}
    urllib.request.urlopen(urllib.request.Request(bench.receiver.url, b'{"id": "came"}'), timeout=10).close()
    assert bench.count_webhooks_lost() == 1
    bench.receiver.close()
