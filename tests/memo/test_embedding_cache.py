"""Embeddings cached on disk are read back, the oldest make room, and a broken cache only costs time."""

import multiprocessing

import numpy as np
import pytest

from memo.embedding_cache import EmbeddingCache, TextEmbedding
from memo.onnx_embedder import load_onnx, open_onnx
from tests.real import ROOT

TEXT = ROOT / "var" / "text"


def embedding(number: int, tokens: int = 5):
    return TextEmbedding(np.full(384, number / 3, np.float32), np.full((tokens, 4, 384), number, np.float32))


def same(found: TextEmbedding, number: int) -> bool:
    wanted = embedding(number)
    return np.array_equal(found.vector, wanted.vector) and np.array_equal(found.states, wanted.states)


def put_one(folder, number):
    EmbeddingCache(folder, 4, 384).put(f"text {number}", embedding(number))


def test_a_cached_embedding_is_read_by_every_process(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", 4, 384)
    assert cache.get("text 1") is None
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=put_one, args=(tmp_path / "cache", number)) for number in (1, 2)]
    for process in others:
        process.start()
    for process in others:
        process.join(30)
    for number in (1, 2):
        found = cache.get(f"text {number}")
        assert found is not None and found.states.dtype == found.vector.dtype == np.float32 and same(found, number)


def test_the_oldest_entries_make_room_when_the_cache_is_full(tmp_path):
    cache = EmbeddingCache(tmp_path, 4, 384, megabytes=2)
    for number in range(200):  # 17 kB each
        cache.put(f"text {number}", embedding(number))
    assert not cache.broken
    kept = [number for number in range(200) if cache.get(f"text {number}") is not None]
    assert kept == list(range(kept[0], 200)) and 50 < len(kept) < 140
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2_100_000


def test_a_text_that_is_cached_already_keeps_its_entry(tmp_path):
    cache = EmbeddingCache(tmp_path, 4, 384)
    cache.put("a", embedding(1))
    cache.put("a", embedding(2))
    assert same(cache.get("a"), 1)


def test_an_unusable_folder_is_logged_once(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file", 4, 384)
    cache.put("a", embedding(1))
    assert cache.get("a") is None and cache.broken
    assert caplog.text.count("cannot cache embeddings") == 1


def test_the_text_model_embeds_no_text_twice(tmp_path, monkeypatch):
    first = open_onnx(TEXT, tmp_path)
    vector, found = first.begin("a red fox")(), first.states_of("a red fox")
    load_onnx.cache_clear()
    again = open_onnx(TEXT, tmp_path)
    monkeypatch.setattr(again, "run", lambda *_: pytest.fail("embedded twice"))
    assert np.allclose(again.states_of("a red fox"), found, atol=2e-3)
    assert np.array_equal(again.begin("a red fox")(), vector) and np.array_equal(again(["a red fox"])[0], vector)
    load_onnx.cache_clear()


@pytest.mark.parametrize("text", ["a red fox", "", "\u200b", "two dogs " * 200])
def test_a_text_is_embedded_the_same_alone_and_in_a_batch(text):
    model = open_onnx(TEXT)
    alone, together = model.states_of(text), model.states([text, "a much longer text than the other one"])[0]
    assert alone.shape == together.shape and len(alone) and np.allclose(alone, together, atol=1e-4)
    assert np.allclose(model([text])[0], model([text, "another"])[0], atol=1e-5)
