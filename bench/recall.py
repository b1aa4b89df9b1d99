"""How long a memory lookup takes, by number of remembered pictures, with the embedded index and the shipped judge.

Fills its own index server with prompts of the judge's grammar. Looks up, one after another on one thread, prompts in
the same words, prompts with the same meaning in other words, and unknown prompts. Nothing is painted; the stored
picture files are empty.
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import psutil
from PIL import Image
from qdrant_client.models import CollectionStatus

from index_server import FLUSH_SECONDS
from memo import Memory, Picture, Recipe, write_png
from memo.embed import Embedder, open_embedder
from memo.index import Labels, PendingPaintings, open_index, open_sibling
from memo.judge.factory import open_judge
from memo.memory import object_name
from memo.store import FolderStore
from memoaized.up import free_port
from training.judge.grammar import Meaning, draw_meaning, write_prompt

SIZES = (1_000, 10_000, 100_000)
PROMPTS_EACH = 200  # of each of the three kinds of lookups
WARM_UP = 20  # lookups before the measured ones
BATCH = 256  # prompts that are remembered at once
PIXEL = Image.new("RGB", (1, 1))  # of every picture, since only its recipe counts


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--judge", default="learned")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder, start_index_server(Path(folder) / "index") as (url, key, server):
        cache = Path(folder) / "embeddings"
        embedder = open_embedder("minilm", options.text_folder, cache)
        index = open_index(url, f"pictures-{embedder.name}", embedder.dimension, api_key=key)
        store = FolderStore(Path(folder) / "pictures")
        memory = Memory(
            embedder,
            index,
            store,
            open_judge(options.judge, options.text_folder, None, cache),
            open_sibling(index, PendingPaintings, "pending"),
            open_sibling(index, Labels, "labels"),
        )
        remembered = remember(memory, embedder, Random(1))
        for size in options.sizes:
            meanings = [meaning for _, meaning in zip(range(size - index.count()), remembered, strict=False)]
            wait_for_graphs(memory)
            disk = sum(file.stat().st_size for file in (Path(folder) / "index").rglob("*") if file.is_file())
            results.append(
                {
                    **measure(memory, meanings[-PROMPTS_EACH:]),
                    "index_mb": megabytes(disk),
                    "server_mb": resident_megabytes(server),
                }
            )
            if not options.json:
                print(json.dumps(results[-1]), flush=True)
    if options.json:
        print(json.dumps(results))


@contextmanager
def start_index_server(folder: Path) -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    """Run an embedded index server on a free port; yields its URL, key and process."""
    port, key = free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "index_server.app", "--port", str(port)]
    environment = {**os.environ, "INDEX_SERVER_FOLDER": str(folder), "INDEX_SERVER_KEY": key}
    process = subprocess.Popen(command, env=environment)
    try:
        time.sleep(3)
        yield f"http://127.0.0.1:{port}", key, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def remember(memory: Memory, embedder: Embedder, random: Random) -> Iterator[Meaning]:
    """Remember endless prompts, in batches; yields the meaning of each."""
    seen: set[str] = set()
    number = 0
    while True:
        batch: list[tuple[Meaning, str]] = []
        while len(batch) < BATCH:
            meaning = draw_meaning(random)
            if (prompt := write_prompt(random, meaning)) not in seen:
                seen.add(prompt)
                batch.append((meaning, prompt))
        pictures = [make_picture(prompt, number + row) for row, (_, prompt) in enumerate(batch)]
        number += len(batch)
        vectors = np.concatenate([embedder([prompt]) for _, prompt in batch])  # one by one, as the worker embeds them
        memory.index.add_all(pictures, vectors)
        for picture in pictures:
            memory.store.put(object_name(picture.key), write_png(PIXEL, picture))
        yield from (meaning for meaning, _ in batch)


def make_picture(prompt: str, number: int) -> Picture:
    """A picture as if it had been painted, with `number` as its seed and time."""
    return Picture(recipe=replace(make_recipe(prompt), seed=number), created=float(number), seconds=1.0)


def make_recipe(prompt: str) -> Recipe:
    """A recipe without a seed."""
    return Recipe(prompt=prompt, model="stickers", revision="r")


def wait_for_graphs(memory: Memory) -> None:
    """Wait until no graph is being built, since that uses the other core."""
    time.sleep(2 * FLUSH_SECONDS)
    while memory.index.client.get_collection(memory.index.collection).status != CollectionStatus.GREEN:
        time.sleep(1)


def measure(memory: Memory, meanings: Sequence[Meaning]) -> dict[str, Any]:
    """Milliseconds and number of hits of each kind of lookup; `meanings` are those of remembered prompts."""
    random = Random(2)
    newest = [picture.recipe.prompt for picture in memory.newest(limit=PROMPTS_EACH)]
    unknown = [write_prompt(random, draw_meaning(random)) for _ in range(PROMPTS_EACH)]
    paraphrases = [write_prompt(random, meaning) for meaning in meanings]
    results: dict[str, Any] = {"remembered": memory.index.count()}
    for prompt in islice(paraphrases, WARM_UP):
        memory.recall(make_recipe(prompt))
    for name, prompts in (("same_words", newest), ("same_meaning", paraphrases), ("unknown", unknown)):
        times, hits = [], 0
        for prompt in prompts:
            started = time.perf_counter()
            hits += memory.recall(make_recipe(prompt)).match is not None
            times.append(1000 * (time.perf_counter() - started))
        p50, p99 = np.percentile(times, (50, 99))
        results |= {f"{name}_p50_ms": round(p50, 1), f"{name}_p99_ms": round(p99, 1), f"{name}_hits": hits}
    return results


def megabytes(size: float) -> float:
    """Bytes as MB."""
    return round(size / 1e6, 1)


def resident_megabytes(process: subprocess.Popen[bytes]) -> float:
    """Memory of a process and its children in MB."""
    main_process = psutil.Process(process.pid)
    return megabytes(sum(part.memory_info().rss for part in (main_process, *main_process.children(recursive=True))))


if __name__ == "__main__":
    main()
