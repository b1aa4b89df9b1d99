"""How long memory takes to answer beside how much it remembers: the embedded index over HTTP, the shipped judge.

Fills an index server of its own with prompts of the judge's grammar and asks, one after another on one thread: the
same words, the same meaning in other words, and what it does not have. Nothing is painted: stored files are empty.
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
from qdrant_client.models import CollectionStatus

from index_server import FLUSH_SECONDS
from memo import Memory, Picture, Recipe
from memo.embed import Embedder, open_embedder
from memo.index import Labels, Pending, beside, open_index
from memo.judge.factory import open_judge
from memo.memory import object_name
from memo.store import FolderStore
from memoaized.up import free_port
from training.judge.grammar import Meaning, draw_meaning, write_prompt

SIZES = (1_000, 10_000, 100_000)
ASKED = 200  # prompts of each sort
WARM = 20
BATCH = 256


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--judge", default="learned")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    told = []
    with tempfile.TemporaryDirectory() as folder, index_server(Path(folder) / "index") as (url, key, server):
        states = Path(folder) / "states"
        embedder = open_embedder("minilm", given.text_folder, states)
        index = open_index(url, f"pictures-{embedder.name}", embedder.dimension, api_key=key)
        store = FolderStore(Path(folder) / "pictures")
        memory = Memory(
            embedder,
            index,
            store,
            open_judge(given.judge, given.text_folder, None, states),
            beside(index, Pending, "pending"),
            beside(index, Labels, "labels"),
        )
        remembered = remember(memory, embedder, Random(1))
        for size in given.sizes:
            meanings = [meaning for _, meaning in zip(range(size - index.count()), remembered, strict=False)]
            settle(memory)
            disk = sum(file.stat().st_size for file in (Path(folder) / "index").rglob("*") if file.is_file())
            told.append(
                {**measure(memory, meanings[-ASKED:]), "index_mb": megabytes(disk), "server_mb": resident(server)}
            )
            if not given.json:
                print(json.dumps(told[-1]), flush=True)
    if given.json:
        print(json.dumps(told))


@contextmanager
def index_server(folder: Path) -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    """An embedded index server on a free port: its URL, key and process."""
    port, key = free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", "1", "--threads", "8"]
    command += ["--log-level", "warning", "--bind", f"127.0.0.1:{port}", "index_server.app:create()"]
    environment = {**os.environ, "INDEX_SERVER_FOLDER": str(folder), "INDEX_SERVER_KEY": key}
    process = subprocess.Popen(command, env=environment)
    try:
        time.sleep(3)
        yield f"http://127.0.0.1:{port}", key, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def remember(memory: Memory, embedder: Embedder, random: Random) -> Iterator[Meaning]:
    """Remember prompts without end, in batches; yields what each means."""
    said: set[str] = set()
    number = 0
    while True:
        batch: list[tuple[Meaning, str]] = []
        while len(batch) < BATCH:
            meaning = draw_meaning(random)
            if (prompt := write_prompt(random, meaning)) not in said:
                said.add(prompt)
                batch.append((meaning, prompt))
        pictures = [painted(prompt, number + row) for row, (_, prompt) in enumerate(batch)]
        number += len(batch)
        vectors = np.concatenate([embedder([prompt]) for _, prompt in batch])  # one by one, as pictures are painted
        memory.index.add_all(pictures, vectors)
        for picture in pictures:
            memory.store.put(object_name(picture.key), b"")
        yield from (meaning for meaning, _ in batch)


def painted(prompt: str, number: int) -> Picture:
    """A picture that might have been painted."""
    return Picture(recipe=replace(wish(prompt), seed=number), created=float(number), seconds=1.0)


def wish(prompt: str) -> Recipe:
    """What someone asks for."""
    return Recipe(prompt=prompt, model="stickers", revision="r")


def settle(memory: Memory) -> None:
    """Wait until no graph is being built: it takes the other core."""
    time.sleep(2 * FLUSH_SECONDS)
    while memory.index.client.get_collection(memory.index.collection).status != CollectionStatus.GREEN:
        time.sleep(1)


def measure(memory: Memory, meanings: Sequence[Meaning]) -> dict[str, Any]:
    """Milliseconds of each sort of question, and how many were answered."""
    random = Random(2)
    newest = [picture.recipe.prompt for picture in memory.newest(limit=ASKED)]
    other = [write_prompt(random, draw_meaning(random)) for _ in range(ASKED)]
    alike = [write_prompt(random, meaning) for meaning in meanings]
    told: dict[str, Any] = {"remembered": memory.index.count()}
    for prompt in islice(alike, WARM):
        memory.recall(wish(prompt))
    for name, prompts in (("same_words", newest), ("same_meaning", alike), ("unknown", other)):
        times, hits = [], 0
        for prompt in prompts:
            begun = time.perf_counter()
            hits += memory.recall(wish(prompt)).match is not None
            times.append(1000 * (time.perf_counter() - begun))
        p50, p99 = np.percentile(times, (50, 99))
        told |= {f"{name}_p50_ms": round(p50, 1), f"{name}_p99_ms": round(p99, 1), f"{name}_hits": hits}
    return told


def megabytes(size: float) -> float:
    """Of bytes."""
    return round(size / 1e6, 1)


def resident(process: subprocess.Popen[bytes]) -> float:
    """Memory of a process and its children in MB."""
    whole = psutil.Process(process.pid)
    return megabytes(sum(part.memory_info().rss for part in (whole, *whole.children(recursive=True))))


if __name__ == "__main__":
    main()
