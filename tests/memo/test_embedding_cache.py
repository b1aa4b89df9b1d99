"""Embeddings cached on disk are read back, the oldest are evicted, and a broken cache only costs time."""

import multiprocessing
import threading
import time
from unittest.mock import Mock, call

import numpy as np
import pytest

from disk.last_use import LastUse
from memo.embedding_cache import EmbeddingCache, TextEmbedding, end_use, text_key
from memo.onnx_embedder import load_onnx, open_onnx
from tests.real import ROOT

TEXT = ROOT / "var" / "text"


def embedding(number: int, tokens: int = 5):
    vector = np.zeros(384, np.float32)
    vector[number] = 1
    return TextEmbedding(vector, np.full((tokens, 4, 384), number, np.float32))


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


# Scopes


def test_nobody_can_tell_by_the_time_what_another_scope_has_read(tmp_path):
    """Forty readings of twenty texts that Ada has read and twenty that nobody has: their ranks tell nothing."""
    model = open_onnx(TEXT, tmp_path)
    texts = [f"{colour} {thing} in the snow" for colour in COLOURS for thing in THINGS]
    known, unknown = texts[::2], texts[1::2]
    for text in known:
        model([text], "ada")
    for forget in (lambda: None, model.embed.cache_clear):  # from the memory of the process, then from the disk
        forget()
        hers = [seconds_to_read(model, text, "ada") for text in known]
        forget()
        seconds = {text: seconds_to_read(model, text, "bob") for text in texts}
        assert abs(rank_sum([seconds[text] for text in known], [seconds[text] for text in unknown])) < 4
        # Her own readings do differ, so the line above would fail if all scopes shared one cache.
        assert rank_sum(hers, [seconds[text] for text in unknown]) < -4
        for text in texts:
            model.forget(text, "bob")
    load_onnx.cache_clear()


COLOURS = ("red", "blue", "green", "white", "black")
THINGS = ("fox", "cat", "dog", "car", "owl", "boat", "tree", "cup")


def seconds_to_read(model, text, scope):
    started = time.perf_counter()
    model([text], scope)
    return time.perf_counter() - started


def rank_sum(first, second):
    """Standard deviations by which the first sample's ranks differ from chance (Wilcoxon 1945, rank sum)."""
    below = sum(a < b for a in first for b in second)
    m, n = len(first), len(second)
    return (m * n / 2 - below) / (m * n * (m + n + 1) / 12) ** 0.5


def test_a_forgotten_text_is_on_no_disk_and_in_no_memory(tmp_path):
    model = open_onnx(TEXT, tmp_path)
    model(["a red fox"], "ada"), model(["a red fox"], "bob")
    model.forget("a red fox", "ada")
    assert model.cache.get("a red fox", "ada") is None and model.cache.get("a red fox", "bob") is not None
    assert model.embed.cache_info().currsize == 0
    with model.cache.environment().begin() as transaction:
        assert [transaction.stat(part)["entries"] for part in (model.cache.by_text, model.cache.by_age)] == [1, 1]
    load_onnx.cache_clear()


# Damage


def filled(folder, count=20):
    """Fill a cache in a process that ends well, and return its file."""
    process = multiprocessing.get_context("spawn").Process(target=fill, args=(folder, count))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    return folder / "data.mdb"


def fill(folder, count):
    cache = EmbeddingCache(folder, 4, 384)
    for number in range(count):
        cache.put(f"text {number}", embedding(number))


def read_all(folder, count=20):
    """Read, embed and cache all texts in another process; returns its exit code and how many were cached before."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=use_all, args=(folder, count, results))
    process.start()
    process.join(60)
    return process.exitcode, results.get(timeout=5) if process.exitcode == 0 else None


def use_all(folder, count, results):
    cache, known = EmbeddingCache(folder, 4, 384), 0
    for number in range(count):
        if (cached := cache.get(f"text {number}")) is None:
            cache.put(f"text {number}", embedding(number))
        else:
            assert matches(cached, number)
            known += 1
    assert all(matches(cache.get(f"text {number}"), number) for number in range(count))
    assert not cache.broken
    results.put(known)


def test_a_cache_whose_last_use_ended_well_is_kept(tmp_path):
    filled(tmp_path / "cache")
    assert read_all(tmp_path / "cache") == (0, 20)


@pytest.mark.parametrize("bytes_left", [0, 100, 4096, 2 * 4096, 100_000])
def test_a_file_that_lacks_pages_neither_kills_nor_stops_the_cache(tmp_path, bytes_left):
    """Reading a page that the file lacks ends a process with SIGBUS."""
    file = filled(tmp_path / "cache")
    with file.open("r+b") as opened:
        opened.truncate(bytes_left)
    assert read_all(tmp_path / "cache") == (0, 0)


@pytest.mark.parametrize("noise", [b"\0", b"\xff", b"\xbe\xef\xc0\xde"])
def test_a_file_with_a_spoiled_header_neither_kills_nor_stops_the_cache(tmp_path, noise):
    file = filled(tmp_path / "cache")
    data = bytearray(file.read_bytes())
    data[: 2 * 4096] = (noise * 8192)[:8192]
    file.write_bytes(data)
    assert read_all(tmp_path / "cache") == (0, 0)


def test_an_entry_with_zeroed_pages_is_replaced_and_never_used(tmp_path):
    file = filled(tmp_path / "cache")
    data = bytearray(file.read_bytes())
    place = data.index(embedding(7).vector.tobytes()[:200]) // 4096 * 4096
    data[place : place + 4 * 4096] = bytes(4 * 4096)  # the pages of one entry, as they are if never written
    file.write_bytes(data)
    code, known = read_all(tmp_path / "cache")
    assert code == 0 and 18 <= known < 20
    assert read_all(tmp_path / "cache") == (0, 20)


def test_an_entry_with_zeros_behind_its_page_header_is_replaced(tmp_path):
    file = filled(tmp_path / "cache")
    data = bytearray(file.read_bytes())
    place = data.index(embedding(7).vector.tobytes()[:200])
    data[place : place + 1500] = bytes(1500)
    file.write_bytes(data)
    assert read_all(tmp_path / "cache") == (0, 19)
    assert read_all(tmp_path / "cache") == (0, 20)


@pytest.mark.parametrize("vector", [np.zeros(384), np.full(384, np.nan), np.full(384, 1e9)], ids=["0", "nan", "1e9"])
def test_a_vector_without_unit_length_is_never_returned(tmp_path, vector):
    cache = EmbeddingCache(tmp_path, 4, 384)
    cache.put("a", TextEmbedding(vector.astype(np.float32), embedding(1).states))
    assert cache.get("a") is None


def test_an_entry_of_another_text_is_never_returned(tmp_path, monkeypatch):
    cache = EmbeddingCache(tmp_path, 4, 384)
    cache.put("a", embedding(1))
    with cache.environment().begin(write=True) as transaction:
        transaction.put(text_key("b"), transaction.get(text_key("a"), db=cache.by_text), db=cache.by_text)
    assert cache.get("b") is None and matches(cache.get("a"), 1)


def test_a_cache_whose_last_user_was_killed_begins_anew(tmp_path):
    filled(tmp_path / "cache")
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=use_until_killed, args=(tmp_path / "cache", ready))
    process.start()
    assert ready.wait(30)
    assert read_all(tmp_path / "cache", 10) == (0, 10)  # another user beside it, which ends well
    process.kill()
    process.join()
    assert read_all(tmp_path / "cache") == (0, 0)


def test_what_a_use_wrote_is_on_the_disk_before_it_counts_as_ended_well():
    calls = Mock()
    end_use(calls.environment, calls.use)
    assert calls.mock_calls == [call.environment.sync(True), call.environment.close(), call.use.end()]


def test_both_notes_of_a_use_are_on_the_disk_when_it_begins_and_ends(tmp_path, disk_steps):
    use = LastUse(tmp_path / "use")
    with use.begin() as first:
        assert first and disk_steps == [("sync", "use")]
    use.end()
    assert disk_steps == [("sync", "use")] * 2


def use_until_killed(folder, ready):
    cache = EmbeddingCache(folder, 4, 384)
    assert cache.get("text 1") is not None
    ready.set()
    threading.Event().wait()


def test_a_user_that_fails_to_open_the_cache_does_not_stop_others(tmp_path, monkeypatch):
    first, second = EmbeddingCache(tmp_path / "cache", 4, 384), EmbeddingCache(tmp_path / "cache", 4, 384)
    monkeypatch.setattr(first, "open_environment", lambda: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert first.get("a") is None and first.broken
    second.put("a", embedding(1))
    assert matches(second.get("a"), 1)
