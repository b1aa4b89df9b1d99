"""Measures how much quality near starts cost: do the pictures still show what their prompts say?

Each pair consists of a remembered scene and a new one, which differ in one to four points. The new scene is painted
from noise, and from the remembered picture with more and more steps skipped, always with the same seed. A classifier
checks each picture for the points of its prompt. `--skips table` skips what the product would skip (memo/near.py).
Finished pairs are saved in a file, so that the bench can be stopped and continued.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from memo import BadSetup
from memo.judge.factory import open_judge
from memo.judge.port import SharesJudge, find_shares_judge
from memo.near import steps_taken, strength_for, strength_of
from training.scenes.places import COLOURS, PLACES

from . import metrics
from .background_colour import background_colour
from .classifier import PictureJudge
from .classifier_training import open_classifier
from .metrics import score_whole
from .model_painter import ModelPainter
from .near_pairs import NearPair, list_pairs
from .prompts import PicturePrompt
from .renders import open_composer, open_drawings

log = logging.getLogger(__name__)

ACCURACIES = ("concept", "count", "colour", "background", "relation")
NOISE = "0"  # the name of the picture that skips no steps
TABLE = "table"
SHARES = (0.0, 1.25, 1.5, 2.0, 2.5)  # the least share of each group of pairs in the table that is printed
GRID_PAIRS = 16


@dataclass(frozen=True)
class Row:
    """The result of a pair. `skipped` and `correct` have an entry for each picture of the new scene."""

    remembered: str
    wanted: str
    changed: Sequence[str]
    share: float
    skipped: Mapping[str, int]
    correct: Mapping[str, Mapping[str, bool]]


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--skips", nargs="+", default=[TABLE], help="numbers of steps, or 'table'")
    parser.add_argument("--seed", type=int, default=1, help="of the pairs")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--model", default="stickers")
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--rows", type=Path, help="the file of rows (default: in var/bench)")
    parser.add_argument("--grid", type=Path, help=f"file for a picture of the first {GRID_PAIRS} pairs")
    parser.add_argument("--at-once", type=int, default=4, help="pictures painted at once")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    rows_file = options.rows or Path(f"var/bench/near-{options.model}-{options.seed}-{'-'.join(options.skips)}.jsonl")
    try:
        bench = NearBench(options.models, options.model, options.text_folder, options.skips, options.at_once)
    except BadSetup as error:
        sys.exit(str(error))
    pairs = list(islice(list_pairs(bench.composer.sprites, Random(options.seed)), options.pairs))
    rows = list(bench.read_or_measure(pairs, rows_file, options.grid))
    figures = summarize(rows)
    print(json.dumps(figures) if options.json else format_figures(figures))


class NearBench:
    """Paints pairs with one model and judges the pictures."""

    def __init__(self, models: Path, model: str, text_folder: Path, skips: Sequence[str], at_once: int) -> None:
        self.skips, self.at_once = skips, at_once
        self.painter = ModelPainter(models, model, {}, slots=at_once)
        self.composer = open_composer(open_drawings(self.painter.model.folder))
        self.classifier: PictureJudge = open_classifier(self.composer)[0]
        shares_judge = find_shares_judge(open_judge("learned", text_folder))
        if shares_judge is None:
            raise BadSetup("the shipped judge cannot tell shares")
        self.shares_judge: SharesJudge = shares_judge
        self.steps = self.painter.catalogue.recipe({**self.painter.settings, "prompt": "steps"}).steps

    def read_or_measure(self, pairs: Sequence[NearPair], file: Path, grid: Path | None) -> Iterator[Row]:
        """Yield the results of all pairs. Those in the file are read; the others are painted and added to it."""
        known = [Row(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
        known = known[: len(pairs)]
        for row, pair in zip(known, pairs, strict=False):
            if row.wanted != pair.wanted.text:
                raise BadSetup(f"{file} has other pairs: remove it, or name another with --rows")
        yield from known
        file.parent.mkdir(parents=True, exist_ok=True)
        shown: list[list[Image.Image]] = []
        numbered = list(enumerate(pairs))[len(known) :]
        with file.open("a") as output, ThreadPoolExecutor(self.at_once) as pool:
            for row, pictures in pool.map(lambda pair: self.measure(*pair), numbered):
                output.write(json.dumps(vars(row)) + "\n")
                output.flush()
                shown.append(pictures)
                del shown[GRID_PAIRS:]
                log.info("%s => %s", row.remembered, row.wanted)
                yield row
        if grid:
            draw_grid(shown).save(grid)

    def measure(self, number: int, pair: NearPair) -> tuple[Row, list[Image.Image]]:
        """Paint a pair and judge its pictures: the remembered one, that from noise, and the near ones."""
        [share] = self.shares_judge.shares(pair.wanted.text, [pair.remembered.text])
        side = self.painter.side
        remembered = self.painter.paint(pair.remembered.text, 2 * number, side)
        skipped = {name: self.skip(name, share) for name in (NOISE, *self.skips)}
        painted: dict[int, Image.Image] = {}
        for steps in sorted(set(skipped.values())):
            strength = strength_for(self.steps - steps, self.steps)
            start = (remembered, strength) if steps else None
            painted[steps] = self.painter.paint(pair.wanted.text, 2 * number + 1, side, start)
        correct = {
            name: judge_picture(self.classifier, pair.wanted, painted[steps]) for name, steps in skipped.items()
        }
        row = Row(pair.remembered.text, pair.wanted.text, pair.changed, round(share, 3), skipped, correct)
        return row, [remembered, *(painted[steps] for steps in skipped.values())]

    def skip(self, name: str, share: float) -> int:
        """How many steps are skipped at a share."""
        if name != TABLE:
            return int(name)
        strength = strength_of(share, self.painter.model.near_strengths)
        return 0 if strength is None else self.steps - steps_taken(self.steps, strength)


def judge_picture(classifier: PictureJudge, prompt: PicturePrompt, picture: Image.Image) -> dict[str, bool]:
    """Whether a picture shows each point that the prompt has, by the name of the accuracy."""
    if prompt.relation:
        return {
            "relation": metrics.relation(classifier, [prompt], [picture])["relation"] == 1,
            "background": has_background(classifier, prompt, picture),
        }
    scores = score_whole(classifier, [picture])
    correct = {
        "count": int(scores.count[0].argmax()) == prompt.count - 1,
        "background": has_background(classifier, prompt, picture),
    }
    if not prompt.colour:  # the classifier knows things in their natural colours only
        correct["concept"] = int(scores.thing[0].argmax()) == prompt.things[0]
    elif prompt.count == 1:  # and the colours of single things
        correct["colour"] = int(scores.colour[0].argmax()) == tuple(COLOURS).index(prompt.colour)
    return correct


def has_background(classifier: PictureJudge, prompt: PicturePrompt, picture: Image.Image) -> bool:
    """Whether a picture has the place or the coloured background of its prompt."""
    if prompt.place:
        return int(score_whole(classifier, [picture]).place[0].argmax()) == tuple(PLACES).index(prompt.place)
    return background_colour(picture) == prompt.background


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of all pairs, and of the pairs of each group of shares."""
    groups = {"all": rows}
    for least, most in zip(SHARES, (*SHARES[1:], 4.0), strict=True):
        groups[f"share {least} to {min(most, 3.0)}"] = [row for row in rows if least <= row.share < most]
    return {name: summarize_group(group) for name, group in groups.items() if group}


def summarize_group(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the accuracies for each way to paint the new scenes."""
    names = list(rows[0].correct)
    return {"pairs": len(rows), **{name: {**accuracies(rows, name)} for name in names}}


def accuracies(rows: Sequence[Row], name: str) -> dict[str, float]:
    """Return the mean number of skipped steps, and each accuracy in percent with its change from noise."""
    figures: dict[str, float] = {"skipped": round(sum(row.skipped[name] for row in rows) / len(rows), 2)}
    for accuracy in ACCURACIES:
        pairs = [
            (row.correct[name][accuracy], row.correct[NOISE][accuracy])
            for row in rows
            if accuracy in row.correct[name]
        ]
        if pairs:
            figures[accuracy] = round(100 * sum(near for near, _ in pairs) / len(pairs), 1)
            figures[f"{accuracy}_change"] = round(100 * sum(near - noise for near, noise in pairs) / len(pairs), 1)
    return figures


def draw_grid(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """The pictures of the pairs, one pair a line."""
    side = rows[0][0].width
    grid = Image.new("RGB", (side * max(map(len, rows)), side * len(rows)), "white")
    for line, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            grid.paste(picture, (column * side, line * side))
    return grid


def format_figures(figures: Mapping[str, Any]) -> str:
    """The figures as a table: the accuracies, and in brackets their difference from painting from noise."""
    lines = []
    for group, of_group in figures.items():
        lines.append(f"{group}: {of_group['pairs']} pairs")
        for name, of_name in of_group.items():
            if name != "pairs":
                parts = [
                    f"{accuracy} {of_name[accuracy]:.1f} ({of_name[accuracy + '_change']:+.1f})"
                    for accuracy in ACCURACIES
                    if accuracy in of_name
                ]
                lines.append(f"  skip {name:>5} ({of_name['skipped']:.2f} steps)  {'  '.join(parts)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
