"""Measure on your GPU how much time near starts save with a model, and how much quality they cost.

    python bench/gpu/near.py --model NAME --clip FOLDER    # FOLDER contains a CLIP model, as transformers saves it

The scenes of a pair differ in one to four points. The bench paints the first scene. It then paints the second one
several times with one seed: from noise, and from the first picture at several strengths. CLIP's score (100 × cosine,
https://arxiv.org/abs/2104.08718) says how well each picture shows its prompt. Without `--clip`, only the times are
measured.

Pairs are grouped by how much the judge says they share. For each group, the bench chooses the lowest strength at
which the mean score falls by at most `--most-lost`. The result can be copied into the field `near` of the model's
`model.json`. `--grid` saves the first pictures, so that you can look at them.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from math import sqrt
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.pictures.model_painter import ANY_NAME, ignore_step
from bench.pictures.near_pairs import list_pairs
from bench.pictures.near_starts import GRID_PAIRS, draw_grid
from bench.pictures.renders import THINGS
from jobs.models import Catalogue
from memo.judge.factory import open_judge
from memo.judge.port import find_shares_judge
from memo.near import DEFAULT_STRENGTHS, steps_taken, strength_for
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions
from worker.stickers.sprites import open_bank

ROOT = Path(__file__).parents[2]
STRENGTHS = (0.9, 0.8, 0.7, 0.6, 0.5)
NOISE = 1.0  # the strength of a painting from noise
LEAST_SHARES = tuple(share for share, _ in DEFAULT_STRENGTHS)
ClipScore = Callable[[Image.Image, str], float]
Row = Mapping[float, tuple[float | None, float]]  # by strength: the score, None without CLIP, and the seconds


def main() -> None:
    """Print the figures of each group of pairs on one line, and then all figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--clip", type=Path, help="folder of a CLIP model and its processor")
    parser.add_argument("--text-folder", type=Path, default=ROOT / "var/text")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, help="instead of the model's default")
    parser.add_argument("--most-lost", type=float, default=0.3, help="points of CLIP's score")
    parser.add_argument("--grid", type=Path, help=f"file for a picture of the first {GRID_PAIRS} pairs")
    parser.add_argument("--device", default="auto", help="as WORKER_DEVICE")
    options = parser.parse_args()
    groups, pictures = measure(options, load_clip(options.clip, options.device) if options.clip else None)
    if options.grid:
        draw_grid(pictures).save(options.grid)
    figures = {f"share from {share}": summarize(rows) for share, rows in groups.items() if rows}
    for name, of_group in figures.items():
        print(json.dumps({name: of_group}), flush=True)
    table = choose_strengths(groups, options.most_lost) if options.clip else None
    print(json.dumps({"model": options.model, "near": table, "groups": figures}))


def measure(
    options: argparse.Namespace, score: ClipScore | None
) -> tuple[dict[float, list[Row]], list[list[Image.Image]]]:
    """Paint all pairs; returns their rows, grouped by the least share of the group, and the first pictures."""
    catalogue = Catalogue(options.models)
    painter = open_painter(catalogue.model(options.model), PainterOptions(device=options.device))
    judge = find_shares_judge(open_judge("learned", options.text_folder))
    if judge is None:
        sys.exit("the shipped judge cannot tell shares")
    sprites = open_bank(ROOT / "models/stickers/sprites").sprites[:THINGS]
    groups: dict[float, list[Row]] = {share: [] for share in (*LEAST_SHARES, 0.0)}
    pictures: list[list[Image.Image]] = []
    for number, pair in enumerate(islice(list_pairs(sprites, Random(options.seed)), options.pairs)):
        settings = {"model": options.model} | ({"steps": options.steps} if options.steps else {})
        old = catalogue.recipe({**settings, "prompt": pair.remembered.text, "seed": 2 * number})
        remembered = painter(old, ignore_step)
        row: dict[float, tuple[float | None, float]] = {}
        painted = [remembered]
        for strength in (NOISE, *STRENGTHS):
            fields = {**settings, "prompt": pair.wanted.text, "seed": 2 * number + 1}
            if strength != NOISE:
                taken = steps_taken(old.steps, strength)
                fields |= {"init_image": ANY_NAME, "strength": strength_for(taken, old.steps)}
            started = time.perf_counter()
            recipe = catalogue.recipe(fields)
            picture = painter(recipe, ignore_step, remembered if recipe.init_image else None)
            seconds = time.perf_counter() - started
            row[strength] = (score(picture, pair.wanted.text) if score else None, seconds)
            painted.append(picture)
        [share] = judge.shares(pair.wanted.text, [pair.remembered.text])
        groups[next(least for least in groups if share >= least)].append(row)
        pictures = [*pictures, painted][:GRID_PAIRS]
    return groups, pictures


def load_clip(folder: Path, device: str) -> ClipScore:
    """CLIP's score of a picture and a text."""
    import torch
    from transformers import CLIPModel, CLIPProcessor

    from worker.engine.device import open_device

    on = open_device(device).name
    model: Any = CLIPModel.from_pretrained(folder).to(on).eval()
    processor: Any = CLIPProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def score(picture: Image.Image, text: str) -> float:
        inputs = processor(text=[text], images=[picture], return_tensors="pt", truncation=True).to(on)
        output = model(**inputs)
        return 100 * float(torch.cosine_similarity(output.image_embeds, output.text_embeds)[0])

    return score


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the mean seconds for each strength. With CLIP, also return the mean score and its change from noise."""
    figures: dict[str, Any] = {"pairs": len(rows)}
    for strength in (NOISE, *STRENGTHS):
        of_strength = {"seconds": statistics.fmean(row[strength][1] for row in rows)}
        if scores := [score for row in rows if (score := row[strength][0]) is not None]:
            change, error = change_from_noise(rows, strength)
            of_strength |= {"clip": statistics.fmean(scores), "change": change, "error": error}
        figures[str(strength)] = {name: round(value, 3) for name, value in of_strength.items()}
    return figures


def change_from_noise(rows: Sequence[Row], strength: float) -> tuple[float, float]:
    """Return by how much the score differs from that of pictures painted from noise: the mean and its error."""
    pairs = [(row[strength][0], row[NOISE][0]) for row in rows]
    changes = [near - noise for near, noise in pairs if near is not None and noise is not None]
    return statistics.fmean(changes), statistics.pstdev(changes) / sqrt(len(changes))


def choose_strengths(groups: Mapping[float, Sequence[Row]], most_lost: float) -> list[list[float]]:
    """Choose the lowest strength that costs little enough, for each group except the one without a least share.

    Pairs that share less never get a lower strength than pairs that share more.
    """
    table: list[list[float]] = []
    lowest = 0.0
    for share, rows in groups.items():
        good = [
            strength
            for strength in STRENGTHS
            if strength >= lowest and rows and change_from_noise(rows, strength)[0] >= -most_lost
        ]
        if not share or not good:
            break
        lowest = min(good)
        table.append([share, lowest])
    return table


if __name__ == "__main__":
    main()
