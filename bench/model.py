"""How good the picture model is: what it paints, judged by a classifier that was taught on real renders only.

Asks for things, places, colours, numbers and relations, paints them as the product does, and has the pictures
judged; real renders of the same prompts, judged alike, stand beside them as the best to be expected. The classifier
is taught once (five minutes on one core) and kept in var/bench. Knows no server: for that see `bench.hit`.
"""

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from memo import BadRecipe, BadSetup
from training.scenes.compose import SceneComposer
from worker.stickers.sprites import Bank

from .pictures.classifier import Judge
from .pictures.classifier_training import FOLDER, Lesson, open_classifier
from .pictures.metrics import JUDGED, Figures, Pictures, diversity
from .pictures.model_painter import THREADS, Brush, peak_memory, seconds
from .pictures.prompts import KINDS, Ask, Sprites, asked, held_out, held_out_rows, known_words
from .pictures.renders import open_composer, open_drawings, render

log = logging.getLogger(__name__)


def main() -> None:
    """Print a table, or with --json one line."""
    run, as_json = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        figures = measure(run)
    except (BadSetup, BadRecipe, subprocess.CalledProcessError) as error:
        sys.exit(f"{error} {getattr(error, 'stderr', '')}")
    print(json.dumps(figures) if as_json else table(figures))


@dataclass(frozen=True)
class Run:
    """What to measure, and how well the judge is to be taught."""

    model: str = "stickers"
    models: Path = Path("models")
    settings: Mapping[str, object] = field(default_factory=dict)  # of recipes, instead of the model's own
    per_kind: int = 10_000  # no more pictures of a kind than this
    timed: int = 11  # pictures
    threads: int = THREADS
    lesson: Lesson = Lesson()
    kept: Path = FOLDER  # where the classifier is


def arguments() -> tuple[Run, bool]:
    """What is asked on the command line; whether as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", default=Run.model)
    parser.add_argument("--models", type=Path, default=Run.models, help="the folder of models")
    parser.add_argument("--steps", type=int, help="instead of the model's own")
    parser.add_argument("--guidance", type=float, help="instead of the model's own")
    parser.add_argument("--per-kind", type=int, default=Run.per_kind, help="no more pictures of a kind than this")
    given = parser.parse_args()
    settings = {"steps": given.steps, "guidance_scale": given.guidance}
    settings = {name: value for name, value in settings.items() if value is not None}
    return Run(given.model, given.models, settings, given.per_kind), given.json


def measure(run: Run) -> dict[str, Any]:
    """All figures, with those of real renders under "ceiling"; None where nothing could be asked."""
    memory = peak_memory(run.models, run.model)
    brush = Brush(run.models, run.model, run.settings, run.threads)
    bank = open_drawings(brush.model.folder)
    composer = open_composer(bank)
    judge, taught = open_classifier(composer, run.kept, run.lesson)
    asks = all_asks(composer, bank, brush.model.folder, run.per_kind)
    painted = {kind: paint(brush, kind, of_kind) for kind, of_kind in asks.items()}
    real = {kind: renders(composer, kind, of_kind) for kind, of_kind in asks.items()}
    return {
        **judged(judge, asks, painted, real),
        "seconds_256": round(seconds(brush, run.timed), 2),
        "peak_memory_mb": memory,
        "pictures": sum(map(len, painted.values())),
        **{f"classifier_{head}": round(part, 4) for head, part in taught.items()},
        "ceiling": judged(judge, asks, real, real),
    }


def all_asks(composer: SceneComposer, bank: Bank, model: Path, most: int) -> dict[str, list[Ask]]:
    """What is asked, by kind."""
    asks = {kind: asked(kind, composer.sprites, most) for kind in KINDS}
    asks["unseen"] = list(really_unseen(asks["unseen"], bank.sprites))
    every = json.loads((model / "model.json").read_text()).get("held_out", 0)
    asks["held_out"] = held_out(composer.sprites, held_out_rows(len(composer.sprites), every), most)
    return asks


def really_unseen(asks: Iterable[Ask], bank: Sprites) -> Iterable[Ask]:
    """Those whose words occur in no name of the bank; says which do."""
    for ask in asks:
        if known := known_words(ask.prompt, bank):
            log.warning("%r is left out of the unseen words: the bank knows %s", ask.prompt, ", ".join(sorted(known)))
        else:
            yield ask


def paint(brush: Brush, kind: str, asks: list[Ask]) -> Pictures:
    """The model's pictures, each from its own seed."""
    log.info("painting %d pictures: %s", len(asks), kind)
    return [brush.paint(ask.prompt, seed, brush.side) for seed, ask in enumerate(asks)]


def renders(composer: SceneComposer, kind: str, asks: list[Ask]) -> Pictures:
    """Real ones of the same."""
    return [render(composer, ask, Random(f"{kind} {row}")) for row, ask in enumerate(asks)]


def judged(
    judge: Judge, asks: dict[str, list[Ask]], pictures: dict[str, Pictures], real: dict[str, Pictures]
) -> Figures:
    """Every figure of the pictures' quality."""
    figures: Figures = {}
    for kind, figures_of in JUDGED.items():
        figures |= figures_of(judge, asks[kind], pictures[kind])
    figures["diversity"] = diversity(asks["diversity"], pictures["diversity"], real["diversity"])
    return {name: None if value is None else round(value, 4) for name, value in figures.items()}


def table(figures: dict[str, Any]) -> str:
    """Three columns: figure, painted, real."""
    rows = [("", "painted", "real")]
    for name, value in figures.items():
        if name != "ceiling":
            rows.append((name, shown(value), shown(figures["ceiling"].get(name, ""))))
    return "\n".join(f"{name:<20} {painted:>8} {real:>8}".rstrip() for name, painted, real in rows)


def shown(value: float | str | None) -> str:
    """A figure as text."""
    return "-" if value is None else str(value)


if __name__ == "__main__":
    main()
