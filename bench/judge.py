"""Accuracy of judges on the same pairs: the shipped judge, cosine similarity, GPTCache's rule, cosine with rules.

`--pairs` is a file of labelled pairs (JSON lines), by default `data/reuse/dev.jsonl`. A second set, the suite, is
made by rule with a fixed seed from the prompts in `--prompts`. The judge was trained on neither.
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
from memo.judge.rules import find_veto
from memo.judge.words import same_words
from training.judge.edits import OTHER_PICTURE, SAME_PICTURE, make_pair
from training.judge.pair_pool import read_prompts

SUITE = ("parti", "dsg", "geneval")  # files of prompts that no judge is trained on
PAIRS_PER_KIND = 100
GPTCACHE_COSINE = 0.6  # GPTCache accepts squared distances of unit vectors up to 0.8 by default
Texts = Sequence[tuple[str, str]]
Decide = Callable[[Texts], list[tuple[float, bool | None]]]  # a score and a decision for each pair


def main() -> None:
    """Print tables, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=Path("data/reuse/dev.jsonl"))
    parser.add_argument("--prompts", type=Path, default=Path("data/prompts"))
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--judges", nargs="*", default=["rules", "learned"], help="values of MEMO_JUDGE")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sets: dict[str, list[Pair]] = {}
    if options.pairs.exists():
        sets["pairs"] = read_pairs(options.pairs)
    if options.prompts.exists():
        sets["suite"] = make_suite(read_prompts(options.prompts, SUITE, options.pairs), 1)
    if not sets:
        print(f"not measured: neither {options.pairs} nor {options.prompts} exists")
    judges = list_judges(open_embedder("minilm", options.text_folder), options.judges, options.text_folder)
    results = {name: {judge: measure(judges[judge], pairs) for judge in judges} for name, pairs in sets.items()}
    if options.json:
        print(json.dumps(results))
        return
    for name, results_by_judge in results.items():
        print_tables(name, results_by_judge)


def make_suite(prompts: Sequence[str], seed: int) -> list[Pair]:
    """PAIRS_PER_KIND pairs of each kind of edit, from random prompts."""
    random = Random(seed)
    pairs: list[Pair] = []
    for edits, y in ((SAME_PICTURE, 1), (OTHER_PICTURE, 0)):
        for kind, edit in edits.items():
            tries = (make_pair(random, prompt, {kind: edit}, y) for prompt in random.sample(prompts, len(prompts)))
            pairs += islice((pair for pair in tries if pair is not None), PAIRS_PER_KIND)
    return pairs


def list_judges(embed: Embedder, specs: Sequence[str], text_folder: Path) -> dict[str, Decide]:
    """The judges by name, those of `specs` last; where a decision is None, `measure` decides at 1 % false hits."""

    def cosine(texts: Texts) -> list[tuple[float, bool | None]]:
        return [(value, None) for value in cosines(embed, texts)]

    def gptcache(texts: Texts) -> list[tuple[float, bool | None]]:
        return [(value, value >= GPTCACHE_COSINE) for value in cosines(embed, texts)]

    def rules(texts: Texts) -> list[tuple[float, bool | None]]:
        return [
            (2.0 if same_words(a, b) else -1.0 if find_veto(a, b) else value, None)
            for value, (a, b) in zip(cosines(embed, texts), texts, strict=True)
        ]

    def open_spec(spec: str) -> Decide:
        judge = open_judge(spec, text_folder)
        return lambda texts: [(score, fits) for score, fits in score_pairs(judge, texts)]

    return {
        "cosine": cosine,
        "GPTCache": gptcache,
        "cosine + rules": rules,
        **{spec: open_spec(spec) for spec in specs},
    }


def cosines(embed: Embedder, texts: Texts) -> list[float]:
    """The cosine similarity of the two embeddings of each pair."""
    unique = sorted({text for pair in texts for text in pair}, key=len)
    vectors = np.concatenate([embed(unique[start : start + 64]) for start in range(0, len(unique), 64)])
    row = {text: number for number, text in enumerate(unique)}
    return [float(vectors[row[a]] @ vectors[row[b]]) for a, b in texts]


def measure(decide: Decide, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Figures of one judge."""
    started = time.perf_counter()
    scores, fits = zip(*decide([(pair.a, pair.b) for pair in pairs]), strict=True)
    seconds = time.perf_counter() - started
    point = threshold(np.asarray(scores, float), np.asarray([pair.y for pair in pairs]), 0.01)
    decided = [score >= point if fit is None else fit for score, fit in zip(scores, fits, strict=True)]
    results = figures(scores, decided, pairs)
    return {**results, "pairs_per_second": round(len(pairs) / seconds, 1)}


def print_tables(name: str, results_by_judge: dict[str, dict[str, Any]]) -> None:
    """Print a table of all judges, and one of the last judge by kind."""
    print(f"\n{name}: {next(iter(results_by_judge.values()))['pairs']} pairs")
    columns = ("true_hit", "false_hit", "true_hit_at_1pct", "true_hit_at_5pct", "auc", "pairs_per_second")
    print(f"{'':24}" + "".join(f"{column:>18}" for column in columns))
    for judge, results in results_by_judge.items():
        print(f"{judge:24}" + "".join(f"{results[column]!s:>18}" for column in columns))
    judge, results = list(results_by_judge.items())[-1]
    print(f"\n{judge}, by kind")
    for kind, figures_of_kind in results["kinds"].items():
        print(
            f"{kind:24}"
            + "".join(f"{figures_of_kind.get(column)!s:>18}" for column in columns[:4])
            + f"{figures_of_kind['pairs']:>8}"
        )


if __name__ == "__main__":
    main()
