"""How often a judge is right: the shipped one beside cosine, GPTCache's rule and rules, on the same pairs.

`--pairs` are labelled pairs (JSON lines), by default `data/reuse/dev.jsonl`; from the files in `--prompts` a suite of
pairs is made by rule with a fixed seed. The judge was taught nothing of either.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from memo.embed import Embedder, open_embedder
from memo.judge.evaluation import figures, score_pairs, threshold
from memo.judge.factory import open_judge
from memo.judge.labelled_pairs import Pair, read_pairs
from memo.judge.rules import same_words, veto
from training.judge.edits import OTHER_PICTURE, SAME_PICTURE, make_pair
from training.judge.pair_pool import read_prompts

SUITE = ("parti", "dsg", "geneval")  # files of prompts that no judge is taught by
EACH = 100  # pairs of a kind
GPTCACHE = 0.6  # cosine: its default accepts squared distances up to 0.8 of unit vectors
Texts = Sequence[tuple[str, str]]
Way = Callable[[Texts], list[tuple[float, bool | None]]]


def main() -> None:
    """Print tables, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=Path("data/reuse/dev.jsonl"))
    parser.add_argument("--prompts", type=Path, default=Path("data/prompts"))
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--judges", nargs="*", default=["rules", "learned"], help="as MEMO_JUDGE has them")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sets: dict[str, list[Pair]] = {}
    if given.pairs.exists():
        sets["pairs"] = read_pairs(given.pairs)
    if given.prompts.exists():
        sets["suite"] = suite(read_prompts(given.prompts, SUITE, given.pairs), 1)
    if not sets:
        print(f"not measured: neither {given.pairs} nor {given.prompts} is there")
    ways = known_ways(open_embedder("minilm", given.text_folder), given.judges, given.text_folder)
    told = {name: {way: measured(ask, pairs) for way, ask in ways.items()} for name, pairs in sets.items()}
    if given.json:
        print(json.dumps(told))
        return
    for name, found in told.items():
        show(name, found)


def suite(prompts: Sequence[str], seed: int) -> list[Pair]:
    """So many pairs of each kind of edit, by chance from all prompts."""
    random = Random(seed)
    found: list[Pair] = []
    for edits, y in ((SAME_PICTURE, 1), (OTHER_PICTURE, 0)):
        for kind, edit in edits.items():
            tries = (make_pair(random, prompt, {kind: edit}, y) for prompt in random.sample(prompts, len(prompts)))
            found += islice((pair for pair in tries if pair is not None), EACH)
    return found


def known_ways(embed: Embedder, specs: Sequence[str], text_folder: Path) -> dict[str, Way]:
    """Each way to decide, by name; a decision of None is made where 1 % of the near misses pass."""

    def cosine(texts: Texts) -> list[tuple[float, bool | None]]:
        return [(value, None) for value in cosines(embed, texts)]

    def gptcache(texts: Texts) -> list[tuple[float, bool | None]]:
        return [(value, value >= GPTCACHE) for value in cosines(embed, texts)]

    def ruled(texts: Texts) -> list[tuple[float, bool | None]]:
        return [
            (2.0 if same_words(a, b) else -1.0 if find_veto(a, b) else value, None)
            for value, (a, b) in zip(cosines(embed, texts), texts, strict=True)
        ]

    def asking(spec: str) -> Way:
        judge = open_judge(spec, text_folder)
        return lambda texts: [(score, fits) for score, fits in score_pairs(judge, texts)]

    return {"cosine": cosine, "GPTCache": gptcache, "cosine + rules": ruled, **{spec: asking(spec) for spec in specs}}


def cosines(embed: Embedder, texts: Texts) -> list[float]:
    """Of both texts' embeddings."""
    unique = sorted({text for pair in texts for text in pair}, key=len)
    vectors = np.concatenate([embed(unique[start : start + 64]) for start in range(0, len(unique), 64)])
    row = {text: number for number, text in enumerate(unique)}
    return [float(vectors[row[a]] @ vectors[row[b]]) for a, b in texts]


def measured(way: Way, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Figures of one way."""
    begun = time.perf_counter()
    scores, fits = zip(*way([(pair.a, pair.b) for pair in pairs]), strict=True)
    seconds = time.perf_counter() - begun
    point = threshold(np.asarray(scores, float), np.asarray([pair.y for pair in pairs]), 0.01)
    decided = [score >= point if fit is None else fit for score, fit in zip(scores, fits, strict=True)]
    told = figures(scores, decided, [pair.y for pair in pairs], [pair.kind for pair in pairs])
    return {**told, "pairs_per_second": round(len(pairs) / seconds, 1)}


def show(name: str, found: dict[str, dict[str, Any]]) -> None:
    """One table of all ways, and one of the last way by kind."""
    print(f"\n{name}: {next(iter(found.values()))['pairs']} pairs")
    columns = ("true_hit", "false_hit", "true_hit_at_1pct", "true_hit_at_5pct", "auc", "pairs_per_second")
    print(f"{'':24}" + "".join(f"{column:>18}" for column in columns))
    for way, told in found.items():
        print(f"{way:24}" + "".join(f"{told[column]!s:>18}" for column in columns))
    way, told = list(found.items())[-1]
    print(f"\n{way}, by kind")
    for kind, of in told["kinds"].items():
        print(f"{kind:24}" + "".join(f"{of.get(column)!s:>18}" for column in columns[:4]) + f"{of['pairs']:>8}")


if __name__ == "__main__":
    main()
