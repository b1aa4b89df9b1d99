"""`memoaized judge FILE.jsonl` measures a judge on labelled pairs; `memoaized judge train` trains one."""

import json
import time
from pathlib import Path
from typing import Any

import click

from jobs.log_lines import log_to_stderr
from memo.judge.evaluation import figures, score_pairs
from memo.judge.factory import open_judge
from memo.judge.labelled_pairs import read_pairs
from training.knobs import read_knobs

from .command_group import FILE, FOLDER, CommandGroup
from .train_commands import knob_option

MAKE_JUDGE = "training.judge.make_judge"


class FileOrCommandGroup(CommandGroup):
    """A group whose first argument may be a file of pairs instead of a subcommand; it runs `pairs` then."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand; overrides click.Group."""
        if args and args[0] not in self.commands:
            return "pairs", self.commands["pairs"], args
        return super().resolve_command(ctx, args)


@click.group(cls=FileOrCommandGroup)
def judge() -> None:
    """Measure a judge: `memoaized judge FILE.jsonl` [options of `memoaized judge pairs`]."""


@judge.command()
@click.argument("file", type=FILE)
@click.option("--judge", "spec", default="learned", show_default=True, help="The judge, as in MEMO_JUDGE.")
@click.option("--text-folder", default="var/text", show_default=True, type=FOLDER, help="The exported text model.")
@click.option("--scores", type=FILE, help="Write the pairs with `score` and `fits` here, as JSON lines.")
def pairs(file: Path, spec: str, text_folder: Path, scores: Path | None) -> None:
    """Judge the pairs in FILE and print figures by kind and by source, then all figures as one line of JSON.

    Each line of FILE is {"a": remembered prompt, "b": new prompt, "y": 0 or 1, "kind": text, "source": text}.
    """
    labelled = read_pairs(file)
    chosen_judge = open_judge(spec, text_folder)
    started = time.perf_counter()
    results = score_pairs(chosen_judge, [(pair.a, pair.b) for pair in labelled])
    seconds = time.perf_counter() - started
    if scores is not None:
        with scores.open("w", encoding="utf-8") as out:
            for pair, (score, fits) in zip(labelled, results, strict=True):
                row = {
                    "a": pair.a,
                    "b": pair.b,
                    "y": pair.y,
                    "kind": pair.kind,
                    "source": pair.source,
                    "score": round(score, 6),
                    "fits": fits,
                }
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    values, verdicts = zip(*results, strict=True)
    measured: dict[str, Any] = figures(values, verdicts, labelled)
    for name, group_figures in [*measured["kinds"].items(), *measured["sources"].items()]:
        click.echo(f"{name:24} {group_figures}")
    speed = {"pairs_per_second": round(len(labelled) / seconds, 1)}
    click.echo(json.dumps({"judge": chosen_judge.name, **measured, **speed}))


def train(**knobs: Any) -> None:
    """Make a new judge from labelled pairs; docs/judge.md explains how. Stopped, it continues from a checkpoint."""
    from training.judge import make_judge

    log_to_stderr()
    make_judge.make_judge(make_judge.Knobs(**knobs))


judge.add_command(
    click.Command("train", None, train, list(map(knob_option, read_knobs(MAKE_JUDGE))), help=train.__doc__)
)
