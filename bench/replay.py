"""How much painting a memory would have saved: traces of prompts, replayed in simulated time.

There are two traces: prompts of real users in the order of their file, and repeated prompts (Zipf), mostly in other
words. A miss takes `--seconds` of one of `--painters`; meanwhile, prompts with the same meaning join it. Nothing is
painted; the stored picture files are empty. `--sample FILE` writes a random sample of answers by meaning, so that a
person can read them and find the wrong ones.
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

from memo import Memory, Recall, Recipe, write_png
from memo.embed import Embedder, open_embedder
from memo.index import Index, Labels, PendingPaintings, open_index, open_sibling
from memo.judge.factory import open_judge
from memo.judge.words import same_words
from memo.memory import object_name
from memo.store import FolderStore
from training.judge.edits import SAME_PICTURE, make_pair, normalize
from training.judge.pair_pool import read_prompts

from .recall import PIXEL, make_picture, make_recipe, start_index_server

REAL = "imagereward"
REPEATED = ("parti", "dsg", "geneval")  # files of prompts that no judge is trained on
MEANINGS = 1500  # different meanings in the repeated trace
REQUESTS = 6000  # in the repeated trace
REWORDED_SHARE = 0.7  # share of the repetitions in other words
ZIPF = 1.0  # exponent; the n-th prompt is requested 1/n as often as the first


@dataclass(frozen=True, slots=True)
class Answer:
    """The remembered prompt that answered a prompt; `correct` is None where only a person can tell."""

    prompt: str
    remembered: str
    reason: str
    correct: bool | None


@dataclass
class Replay:
    """Replays a trace through a memory: a painting takes `seconds`, and a request arrives every `pause` seconds."""

    memory: Memory
    seconds: float
    painters: int
    pause: float
    clock: float = 0.0
    number: int = 0
    free: list[float] = field(default_factory=list)  # when each painter is free
    busy: list[tuple[float, int, str, Recipe]] = field(default_factory=list)  # paintings by their end time
    prompts: dict[str, str] = field(default_factory=dict)  # of paintings under way
    counts: Counter[str] = field(default_factory=Counter)
    recall_seconds: float = 0.0  # real time of all lookups
    answers: list[Answer] = field(default_factory=list)

    def run(self, trace: Sequence[tuple[str, str | None]]) -> None:
        """Request every (prompt, meaning) in turn; an answer is correct if it has the same meaning."""
        meaning_of = {prompt: meaning for prompt, meaning in trace}
        self.free = [0.0] * self.painters
        for prompt, meaning in trace:
            self.clock += self.pause
            self.finish()
            recipe = make_recipe(prompt)
            started = time.perf_counter()
            recall = self.memory.recall(recipe)
            self.recall_seconds += time.perf_counter() - started
            remembered = self.serve(recipe, recall)
            if remembered is not None and not same_words(remembered, prompt):
                correct = None if meaning is None else meaning_of[remembered] == meaning
                self.answers.append(Answer(prompt, remembered, recall.reason, correct))

    def serve(self, recipe: Recipe, recall: Recall) -> str | None:
        """Count the answer, or paint on a miss; returns the prompt whose picture answered, None on a miss."""
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
        """Remember the pictures finished by now."""
        while self.busy and self.busy[0][0] <= self.clock:
            _, number, painting, recipe = heapq.heappop(self.busy)
            picture = make_picture(recipe.prompt, number)
            self.memory.store.put(object_name(picture.key), write_png(PIXEL, picture))
            self.memory.index_picture(picture)
            self.memory.painting_ended(painting)

    def figures(self, watts: float) -> dict[str, Any]:
        """Figures of the trace so far."""
        requests = sum(self.counts.values())
        saved = (requests - self.counts["painted"]) * self.seconds
        correct = [answer.correct for answer in self.answers if answer.correct is not None]
        return {
            "requests": requests,
            **dict(sorted(self.counts.items())),
            "hit_rate": round(1 - self.counts["painted"] / requests, 4),
            "seconds_saved": round(saved, 1),
            "watt_hours_saved": round(saved * watts / 3600, 1),
            "in_other_words": len(self.answers),
            "of_another_meaning": correct.count(False) if correct else None,
            "recall_ms": round(1000 * self.recall_seconds / requests, 1),
        }


def main() -> None:
    """Print one line of JSON for each trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, default=Path("data/prompts"))
    parser.add_argument("--pairs", type=Path, default=Path("data/reuse/dev.jsonl"), help="whose prompts are left out")
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--judge", default="learned")
    parser.add_argument("--seconds", type=float, default=4.0, help="to paint one picture")
    parser.add_argument(
        "--watts", type=float, default=350.0, help="of a painter at work; the default is an assumption"
    )
    parser.add_argument("--painters", type=int, default=4)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two requests")
    parser.add_argument("--most", type=int, help="replay at most so many requests of a trace")
    parser.add_argument("--sample", type=Path, help="file to write a sample of the answers to")
    options = parser.parse_args()
    if not options.prompts.exists():
        print(f"not measured: {options.prompts} does not exist")
        return
    embedder = open_embedder("minilm", options.text_folder)
    samples: list[dict[str, Any]] = []
    for name, trace in list_traces(options.prompts, options.pairs):
        with tempfile.TemporaryDirectory() as folder, start_index_server(Path(folder) / "index") as (url, key, _):
            index = open_index(url, f"pictures-{embedder.name}", embedder.dimension, api_key=key)
            memory = open_memory(embedder, index, Path(folder), options.judge, options.text_folder)
            replay = Replay(memory, options.seconds, options.painters, options.pause)
            replay.run(trace[: options.most])
        print(json.dumps({"trace": name, **replay.figures(options.watts)}), flush=True)
        sample = Random(1).sample(replay.answers, min(100, len(replay.answers)))
        samples += [
            {"trace": name, "a": answer.remembered, "b": answer.prompt, "reason": answer.reason} for answer in sample
        ]
    if options.sample:
        options.sample.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in samples))


def open_memory(embedder: Embedder, index: Index, folder: Path, judge: str, text_folder: Path) -> Memory:
    """An empty memory with this index."""
    store = FolderStore(folder / "pictures")
    pending, labels = open_sibling(index, PendingPaintings, "pending"), open_sibling(index, Labels, "labels")
    return Memory(embedder, index, store, open_judge(judge, text_folder), pending, labels)


def list_traces(folder: Path, avoid: Path) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """The trace of real users and the repeated trace, by name; the latter has no prompts of the file `avoid`."""
    prompts = read_lines(folder / f"{REAL}.txt")
    second_half = prompts[len(prompts) // 2 :]  # the judge was trained on the first half
    yield "real users", [(prompt, None) for prompt in second_half]
    yield "repeated", list(repeat_prompts(Random(1), read_prompts(folder, REPEATED, avoid)))


def read_lines(path: Path) -> list[str]:
    """The prompts of a file that are valid in a request."""
    lines = [" ".join(line.split()) for line in path.read_text().splitlines()]
    return [line for line in lines if 0 < len(line) <= 2000 and line.isprintable()]


def repeat_prompts(random: Random, prompts: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Prompts, often repeated and mostly in other words, with their meanings; a meaning is the original prompt."""
    chosen = random.sample(prompts, MEANINGS)
    weights = [1 / (rank + 1) ** ZIPF for rank in range(MEANINGS)]
    for meaning in random.choices(chosen, weights, k=REQUESTS):
        pair = make_pair(random, meaning, SAME_PICTURE, 1) if random.random() < REWORDED_SHARE else None
        text = normalize(meaning)
        yield (text if pair is None else pair.b if pair.a == text else pair.a), meaning


if __name__ == "__main__":
    main()
