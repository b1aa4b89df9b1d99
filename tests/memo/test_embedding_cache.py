"""Embeddings cached on disk are read back, the oldest are evicted, and a broken cache only costs time."""

import multiprocessing

import numpy as np
import pytest

from memo.embedding_cache import EmbeddingCache, TextEmbedding
from memo.onnx_embedder import load_onnx, open_onnx
from tests.real import ROOT

TEXT = ROOT / "var" / "text"


def embedding(number: int, tokens: int = 5):
    return TextEmbedding(np.full(384, number / 3, np.float32), np.full((tokens, 4, 384), number, np.float32))


def matches(cached: TextEmbedding, number: int) -> bool:
    expected = embedding(number)
    return np.array_equal(cached.vector, expected.vector) and np.array_equal(cached.states, expected.states)


def cache_embedding(folder, number):
    EmbeddingCache(folder, 4, 384).put(f"text {number}", embedding(number))


def test_a_cached_embedding_is_read_by_every_process(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", 4, 384)
    assert cache.get("text 1") is None
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=cache_embedding, args=(tmp_path / "cache", number)) for number in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    for number in (1, 2):
        cached = cache.get(f"text {number}")
        assert cached is not None and matches(cached, number)
        assert cached.states.dtype == cached.vector.dtype == np.float32


def test_the_oldest_entries_are_evicted_when_the_cache_is_full(tmp_path):
    cache = EmbeddingCache(tmp_path, 4, 384, megabytes=2)
    for number in range(200):  # 17 kB each
        cache.put(f"text {number}", embedding(number))
    assert not cache.broken
    remaining = [number for number in range(200) if cache.get(f"text {number}") is not None]
    assert remaining == list(range(remaining[0], 200)) and 50 < len(remaining) < 140
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2_100_000


def test_a_text_that_is_already_cached_keeps_its_entry(tmp_path):
    cache = EmbeddingCache(tmp_path, 4, 384)
    cache.put("a", embedding(1))
    cache.put("a", embedding(2))
    assert matches(cache.get("a"), 1)


def test_an_unusable_folder_is_logged_once(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file", 4, 384)
    cache.put("a", embedding(1))
    assert cache.get("a") is None and cache.broken
    assert caplog.text.count("cannot cache embeddings") == 1


def test_the_text_model_embeds_no_text_twice(tmp_path, monkeypatch):
    first = open_onnx(TEXT, tmp_path)
    vector, states = first.begin("a red fox")(), first.states_of("a red fox")
    load_onnx.cache_clear()
    reopened = open_onnx(TEXT, tmp_path)
    monkeypatch.setattr(reopened, "run", lambda *_: pytest.fail("embedded twice"))
    assert np.allclose(reopened.states_of("a red fox"), states, atol=2e-3)
    assert np.array_equal(reopened.begin("a red fox")(), vector)
    assert np.array_equal(reopened(["a red fox"])[0], vector)
    load_onnx.cache_clear()


@pytest.mark.parametrize("text", ["a red fox", "", "\u200b", "two dogs " * 200])
def test_a_text_is_embedded_the_same_alone_and_in_a_batch(text):
    model = open_onnx(TEXT)
    alone, together = model.states_of(text), model.states([text, "a much longer text than the other one"])[0]
    assert alone.shape == together.shape and len(alone) and np.allclose(alone, together, atol=1e-4)
    assert np.allclose(model([text])[0], model([text, "another"])[0], atol=1e-5)
