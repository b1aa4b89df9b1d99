"""`memoaized judge FILE.jsonl`: how often a judge is right on labelled pairs; `memoaized judge train`."""

import json
import time
from pathlib import Path
from typing import Any

import click

from memo.judge.evaluation import figures, score_pairs
from memo.judge.factory import open_judge
from memo.judge.labelled_pairs import read_pairs

from .train_commands import FILE, FOLDER, Told


class FileOrCommand(Told):
    """What is no subcommand is the file to judge."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's hook."""
        if args and args[0] not in self.commands:
            return "pairs", self.commands["pairs"], args
        return super().resolve_command(ctx, args)


@click.group(cls=FileOrCommand)
def judge() -> None:
    """Measure a judge: `memoaized judge FILE.jsonl` [options of `memoaized judge pairs`]."""


@judge.command()
@click.argument("file", type=FILE)
@click.option("--judge", "spec", default="learned", show_default=True, help="Which judge, as MEMO_JUDGE has it.")
@click.option("--text-folder", default="var/text", show_default=True, type=FOLDER, help="The exported text model.")
@click.option("--scores", type=FILE, help="Write the pairs with `score` and `fits` here, as JSON lines.")
def pairs(file: Path, spec: str, text_folder: Path, scores: Path | None) -> None:
    """Judge the pairs of FILE, lines of {"a": remembered, "b": new, "y": 0|1, "kind": …}; the last line is JSON."""
    found = read_pairs(file)
    asked = open_judge(spec, text_folder)
    begun = time.perf_counter()
    results = score_pairs(asked, [(one.a, one.b) for one in found])
    seconds = time.perf_counter() - begun
    if scores is not None:
        with scores.open("w", encoding="utf-8") as out:
            for one, (score, fit) in zip(found, results, strict=True):
                row = {"a": one.a, "b": one.b, "y": one.y, "kind": one.kind, "score": round(score, 6), "fits": fit}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    values, fits = zip(*results, strict=True)
    told: dict[str, Any] = figures(values, fits, [one.y for one in found], [one.kind for one in found])
    for kind, of in told["kinds"].items():
        click.echo(f"{kind:24} {of}")
    click.echo(json.dumps({"judge": asked.name, **told, "pairs_per_second": round(len(found) / seconds, 1)}))


@judge.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False)
@click.pass_context
def train(ctx: click.Context) -> None:
    """Teach a new judge: options are those of `python -m training.judge.train_judge`."""
    from training.judge import train_judge
    from training.knobs import from_arguments

    train_judge.train(from_arguments(train_judge.Knobs, train_judge.__doc__, ctx.args))
