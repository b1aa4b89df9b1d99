"""How good the picture model is, as a classifier sees it that was trained on real renders only.

Paints prompts about things, places, colours, numbers and relations as the worker does, and judges the pictures. Real
renders of the same prompts, judged in the same way, are the ceiling. The classifier is trained once (five minutes on
one core) and kept in var/bench.
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

from .pictures.classifier import PictureJudge
from .pictures.classifier_training import FOLDER, TrainingOptions, open_classifier
from .pictures.metrics import FIGURES, Figures, Pictures, diversity
from .pictures.model_painter import THREADS, ModelPainter, measure_seconds, peak_memory
from .pictures.prompts import KINDS, PicturePrompt, Sprites, held_out, held_out_rows, known_words, list_prompts
from .pictures.renders import open_composer, open_drawings, render

log = logging.getLogger(__name__)


def main() -> None:
    """Print a table, or with --json one line."""
    options, as_json = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        figures = measure(options)
    except (BadSetup, BadRecipe, subprocess.CalledProcessError) as error:
        sys.exit(f"{error} {getattr(error, 'stderr', '')}")
    print(json.dumps(figures) if as_json else format_table(figures))


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how to train the classifier."""

    model: str = "stickers"
    models: Path = Path("models")
    settings: Mapping[str, object] = field(default_factory=dict)  # of recipes, instead of the model's defaults
    per_kind: int = 10_000  # at most so many pictures of a kind
    timed: int = 11  # pictures whose time is measured
    threads: int = THREADS
    training: TrainingOptions = TrainingOptions()
    folder: Path = FOLDER  # of the classifier


def parse_arguments() -> tuple[BenchOptions, bool]:
    """The options on the command line, and whether to print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", default=BenchOptions.model)
    parser.add_argument("--models", type=Path, default=BenchOptions.models, help="the folder of models")
    parser.add_argument("--steps", type=int, help="instead of the model's default")
    parser.add_argument("--guidance", type=float, help="instead of the model's default")
    parser.add_argument("--per-kind", type=int, default=BenchOptions.per_kind, help="most pictures of a kind")
    arguments = parser.parse_args()
    settings = {"steps": arguments.steps, "guidance_scale": arguments.guidance}
    settings = {name: value for name, value in settings.items() if value is not None}
    return BenchOptions(arguments.model, arguments.models, settings, arguments.per_kind), arguments.json


def measure(options: BenchOptions) -> dict[str, Any]:
    """All figures, with those of real renders under "ceiling"; a figure is None if its kind has no prompts."""
    memory = peak_memory(options.models, options.model)
    painter = ModelPainter(options.models, options.model, options.settings, options.threads)
    bank = open_drawings(painter.model.folder)
    composer = open_composer(bank)
    judge, accuracy = open_classifier(composer, options.folder, options.training)
    prompts = list_all_prompts(composer, bank, painter.model.folder, options.per_kind)
    painted = {kind: paint(painter, kind, of_kind) for kind, of_kind in prompts.items()}
    real = {kind: render_prompts(composer, kind, of_kind) for kind, of_kind in prompts.items()}
    return {
        **compute_figures(judge, prompts, painted, real),
        "seconds_256": round(measure_seconds(painter, options.timed), 2),
        "peak_memory_mb": memory,
        "pictures": sum(map(len, painted.values())),
        **{f"classifier_{head}": round(part, 4) for head, part in accuracy.items()},
        "ceiling": compute_figures(judge, prompts, real, real),
    }


def list_all_prompts(composer: SceneComposer, bank: Bank, model: Path, limit: int) -> dict[str, list[PicturePrompt]]:
    """All prompts by kind, at most `limit` of each."""
    prompts = {kind: list_prompts(kind, composer.sprites, limit) for kind in KINDS}
    prompts["unseen"] = list(drop_known_words(prompts["unseen"], bank.sprites))
    every = json.loads((model / "model.json").read_text()).get("held_out", 0)
    prompts["held_out"] = held_out(composer.sprites, held_out_rows(len(composer.sprites), every), limit)
    return prompts


def drop_known_words(prompts: Iterable[PicturePrompt], bank: Sprites) -> Iterable[PicturePrompt]:
    """The prompts without words that occur in a name of the bank; logs the dropped ones."""
    for prompt in prompts:
        if known := known_words(prompt.text, bank):
            log.warning(
                "%r is not an unseen word and is left out: the bank has %s", prompt.text, ", ".join(sorted(known))
            )
        else:
            yield prompt


def paint(painter: ModelPainter, kind: str, prompts: list[PicturePrompt]) -> Pictures:
    """Pictures of the prompts by the model, each with its own seed."""
    log.info("painting %d pictures: %s", len(prompts), kind)
    return [painter.paint(prompt.text, seed, painter.side) for seed, prompt in enumerate(prompts)]


def render_prompts(composer: SceneComposer, kind: str, prompts: list[PicturePrompt]) -> Pictures:
    """Real renders of the same prompts."""
    return [render(composer, prompt, Random(f"{kind} {row}")) for row, prompt in enumerate(prompts)]


def compute_figures(
    judge: PictureJudge,
    prompts: dict[str, list[PicturePrompt]],
    pictures: dict[str, Pictures],
    real: dict[str, Pictures],
) -> Figures:
    """All figures about the quality of pictures."""
    figures: Figures = {}
    for kind, figures_of in FIGURES.items():
        figures |= figures_of(judge, prompts[kind], pictures[kind])
    figures["diversity"] = diversity(prompts["diversity"], pictures["diversity"], real["diversity"])
    return {name: None if value is None else round(value, 4) for name, value in figures.items()}


def format_table(figures: dict[str, Any]) -> str:
    """The figures as a table with three columns: figure, painted, real."""
    rows = [("", "painted", "real")]
    for name, value in figures.items():
        if name != "ceiling":
            rows.append((name, format_figure(value), format_figure(figures["ceiling"].get(name, ""))))
    return "\n".join(f"{name:<20} {painted:>8} {real:>8}".rstrip() for name, painted, real in rows)


def format_figure(value: float | str | None) -> str:
    """A figure as text."""
    return "-" if value is None else str(value)


if __name__ == "__main__":
    main()
