"""What a memory would have saved: traces of prompts asked one after the other, in a time of their own.

Two traces: prompts of real users in the order of their file, and a few prompts asked again and again (Zipf), most
times in other words. A miss takes `--seconds` of one of `--painters`; what means the same while it is painted
is joined. Nothing is really painted: stored files are empty. With `--sample FILE` answers by meaning, drawn by
chance, are written out to be read: only a reader can say which are wrong.
"""

import argparse
import heapq
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from memo import Memory, Recall, Recipe
from memo.embed import Embedder, open_embedder
from memo.index import Index, Labels, Pending, beside, open_index
from memo.judge.factory import open_judge
from memo.judge.words import same_words
from memo.memory import object_name
from memo.store import FolderStore
from training.judge.edits import SAME_PICTURE, make_pair, normalize
from training.judge.pair_pool import read_prompts

from .recall import index_server, painted, wish

REAL = "imagereward"
REPEATED = ("parti", "dsg", "geneval")  # prompts that no judge is taught by
MEANINGS = 1500  # of the repeated trace
REQUESTS = 6000
REWORDED = 0.7  # of the repetitions
ZIPF = 1.0  # exponent: the n-th prompt is asked 1/n as often as the first


@dataclass(frozen=True, slots=True)
class Answer:
    """What a prompt was answered with; `right` is None where only a reader can tell."""

    prompt: str
    remembered: str
    reason: str
    right: bool | None


@dataclass
class Replay:
    """A trace through a memory. `seconds` of painting by so many painters; a request comes each `pause` seconds."""

    memory: Memory
    seconds: float
    painters: int
    pause: float
    clock: float = 0.0
    number: int = 0
    free: list[float] = field(default_factory=list)  # when each painter is free
    busy: list[tuple[float, int, str, Recipe]] = field(default_factory=list)  # paintings by their end
    prompts: dict[str, str] = field(default_factory=dict)  # of paintings under way
    counts: Counter[str] = field(default_factory=Counter)
    asking: float = 0.0  # seconds that memory took
    answers: list[Answer] = field(default_factory=list)

    def run(self, trace: Sequence[tuple[str, str | None]]) -> None:
        """Ask for all (prompt, meaning); answers of equal meaning are right, without a meaning nobody knows."""
        meant = {prompt: meaning for prompt, meaning in trace}
        self.free = [0.0] * self.painters
        for prompt, meaning in trace:
            self.clock += self.pause
            self.finish()
            recipe = wish(prompt)
            begun = time.perf_counter()
            recall = self.memory.recall(recipe)
            self.asking += time.perf_counter() - begun
            remembered = self.serve(recipe, recall)
            if remembered is not None and not same_words(remembered, prompt):
                right = None if meaning is None else meant[remembered] == meaning
                self.answers.append(Answer(prompt, remembered, recall.reason, right))

    def serve(self, recipe: Recipe, recall: Recall) -> str | None:
        """Count the answer and paint on a miss; returns the prompt that answered."""
        if recall.match:
            self.counts[recall.match.how] += 1
            return recall.match.picture.recipe.prompt
        if recall.painting:
            self.counts["joined"] += 1
            return self.prompts[recall.painting]
        self.counts["painted"] += 1
        self.number += 1
        painting = UUID(int=self.number).hex
        end = max(self.clock, heapq.heappop(self.free)) + self.seconds
        heapq.heappush(self.free, end)
        heapq.heappush(self.busy, (end, self.number, painting, recipe))
        self.prompts[painting] = recipe.prompt
        self.memory.painting_started(painting, recipe)
        return None

    def finish(self) -> None:
        """Remember what has been painted by now."""
        while self.busy and self.busy[0][0] <= self.clock:
            _, number, painting, recipe = heapq.heappop(self.busy)
            picture = painted(recipe.prompt, number)
            self.memory.store.put(object_name(picture.key), b"")
            self.memory.index_picture(picture)
            self.memory.painting_ended(painting)

    def told(self, watts: float) -> dict[str, Any]:
        """Figures of the trace so far."""
        asked = sum(self.counts.values())
        saved = (asked - self.counts["painted"]) * self.seconds
        right = [answer.right for answer in self.answers if answer.right is not None]
        return {
            "asked": asked,
            **dict(sorted(self.counts.items())),
            "hit_rate": round(1 - self.counts["painted"] / asked, 4),
            "seconds_saved": round(saved, 1),
            "watt_hours_saved": round(saved * watts / 3600, 1),
            "in_other_words": len(self.answers),
            "of_another_meaning": right.count(False) if right else None,
            "recall_ms": round(1000 * self.asking / asked, 1),
        }


def main() -> None:
    """Print one line of JSON a trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, default=Path("data/prompts"))
    parser.add_argument("--pairs", type=Path, default=Path("data/reuse/dev.jsonl"), help="whose prompts are left out")
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--judge", default="learned")
    parser.add_argument("--seconds", type=float, default=4.0, help="of painting one picture")
    parser.add_argument("--watts", type=float, default=350.0, help="of a painter at work: an assumption, say yours")
    parser.add_argument("--painters", type=int, default=4)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two requests")
    parser.add_argument("--most", type=int, help="requests of a trace")
    parser.add_argument("--sample", type=Path, help="a file for answers to read")
    given = parser.parse_args()
    if not given.prompts.exists():
        print(f"not measured: {given.prompts} is not there")
        return
    embedder = open_embedder("minilm", given.text_folder)
    read: list[dict[str, Any]] = []
    for name, trace in traces(given.prompts, given.pairs):
        with tempfile.TemporaryDirectory() as folder, index_server(Path(folder) / "index") as (url, key, _):
            index = open_index(url, f"pictures-{embedder.name}", embedder.dimension, api_key=key)
            memory = remembering(embedder, index, Path(folder), given.judge, given.text_folder)
            replay = Replay(memory, given.seconds, given.painters, given.pause)
            replay.run(trace[: given.most])
        print(json.dumps({"trace": name, **replay.told(given.watts)}), flush=True)
        drawn = Random(1).sample(replay.answers, min(100, len(replay.answers)))
        read += [{"trace": name, "a": one.remembered, "b": one.prompt, "reason": one.reason} for one in drawn]
    if given.sample:
        given.sample.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in read))


def remembering(embedder: Embedder, index: Index, folder: Path, judge: str, text_folder: Path) -> Memory:
    """An empty memory over an index."""
    store = FolderStore(folder / "pictures")
    pending, labels = beside(index, Pending, "pending"), beside(index, Labels, "labels")
    return Memory(embedder, index, store, open_judge(judge, text_folder), pending, labels)


def traces(folder: Path, avoid: Path) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """The trace of real users, and the repeated one."""
    prompts = lines(folder / f"{REAL}.txt")
    yield "real users", [(prompt, None) for prompt in prompts[len(prompts) // 2 :]]  # the first half taught the judge
    yield "repeated", list(repeated(Random(1), read_prompts(folder, REPEATED, avoid)))


def lines(path: Path) -> list[str]:
    """The prompts of a file that a request may have."""
    found = [" ".join(line.split()) for line in path.read_text().splitlines()]
    return [line for line in found if 0 < len(line) <= 2000 and line.isprintable()]


def repeated(random: Random, prompts: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Prompts asked again and again, mostly in other words; the meaning of each is the prompt that it comes from."""
    chosen = random.sample(prompts, MEANINGS)
    often = [1 / (rank + 1) ** ZIPF for rank in range(MEANINGS)]
    for meaning in random.choices(chosen, often, k=REQUESTS):
        found = make_pair(random, meaning, SAME_PICTURE, 1) if random.random() < REWORDED else None
        said = normalize(meaning)
        yield (said if found is None else found.b if found.a == said else found.a), meaning


if __name__ == "__main__":
    main()
