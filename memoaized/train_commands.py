"""`memoaized train …`: runs as commands, on one's own pictures, here or through the queue.

Options are read from the source of the runs, and pictures are checked, before torch is loaded.
"""

import json
import re
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from memo import BadSetup, MemoError
from training import RUNS
from training.knobs import Knob, knobs_of, read_knobs

ROOT = Path(__file__).parent.parent
SHIPPED_VAE = ROOT / "models" / "stickers" / "vae"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
HELD_FEWEST = 8  # pictures left to learn from
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)

PICTURES = (
    click.Option(["--images"], type=FOLDER, help="Folder of your pictures; with --captions."),
    click.Option(["--captions"], type=FILE, help="CSV with the columns file, and caption or label."),
    click.Option(
        ["--side"], type=click.IntRange(8), default=128, show_default=True, help="px they are cropped and reduced to."
    ),
)
QUEUED = (click.Option(["--queue"], help="redis://…: let a training worker do it."),)
PACKED = (
    click.Option(["--name"], help="Pack the result as a model of this name."),
    click.Option(["--models"], type=FOLDER, default=ROOT / "models", help="Folder of picture models."),
    click.Option(["--title"], help="What the form calls it; else its name."),
    click.Option(["--licence"], default="not stated", show_default=True, help="Of the model."),
)


class Value(click.ParamType[Any]):
    """A knob's value as text; several ones are parted by commas."""

    def __init__(self, knob: Knob) -> None:
        self.knob, self.name = knob, knob.kind.lower()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Click's hook."""
        try:
            return self.knob.read(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Click's hook."""
        return f"{self.knob.kind.upper()}{',…' if self.knob.many else ''}"


class RunCommand(click.Command):
    """A run; its knobs become options when they are asked for."""

    def __init__(self, run: str, own: tuple[click.Option, ...], **settings: Any) -> None:
        super().__init__(run, callback=self.call, params=list(own), **settings)
        self.run, self.own = run, {option.name for option in own}

    @cached_property
    def knobs(self) -> list[Knob]:
        """The run's knobs; only one with a default that must be computed makes the run be loaded."""
        try:
            found = read_knobs(RUNS[self.run])
        except TypeError:
            from training.runs import load

            found = knobs_of(load(RUNS[self.run]).Knobs)
        return [with_default(knob) for knob in found]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Click's hook: own options first, then the knobs, then --help."""
        *own, helping = super().get_params(ctx)
        return [*own, *map(option, self.knobs), helping]

    def call(self, **values: Any) -> None:
        """Check everything, then train here or submit."""
        own = {name: values.pop(name) for name in self.own}
        check_name(own.get("name"))
        values = {name: plain(name, value) for name, value in values.items()}
        if own["images"] or own["captions"]:
            check_side(own["side"], Path(values.get("vae") or ""), values.get("patch", 1))
            values["pairs"] = str(keep_pairs(own, Path(values["out"]), values.get("held_out")))
        perform(self.run, values, own)


def with_default(knob: Knob) -> Knob:
    """The autoencoder is the shipped one unless another is asked for."""
    if knob.name != "vae":
        return knob
    default = SHIPPED_VAE if knob.kind == "Path" else str(SHIPPED_VAE)
    return Knob(knob.name, knob.kind, knob.many, default, knob.help)


def option(knob: Knob) -> click.Option:
    """The option of a knob."""
    if knob.kind == "bool":
        flags = [f"{knob.option}/--no-{knob.option[2:]}"]
        return click.Option(flags, default=knob.default, show_default=True, help=knob.help)
    default = None if knob.default is None else knob.write(knob.default)
    return click.Option(
        [knob.option],
        type=Value(knob),
        default=default,
        required=default is None,
        show_default=bool(default),
        help=knob.help,
    )


def plain(name: str, value: Any) -> Any:
    """A value as JSON has it; paths mean the same in a process elsewhere on this machine."""
    if isinstance(value, Path) or (name in ("begin", "vae") and value):
        return str(Path(value).resolve())
    return list(value) if isinstance(value, tuple) else value


def check_name(name: str | None) -> None:
    """Raise BadSetup for a name that cannot be a model's."""
    if name is not None and not NAME.fullmatch(name):
        raise BadSetup(f"--name {name!r}: use 1 to 64 lower case letters, digits and hyphens, no hyphen at the ends")


def check_side(side: int, vae: Path, patch: int) -> None:
    """Raise BadSetup for pictures that the autoencoder, if any, and the network's cells do not divide evenly."""
    if (config := vae / "config.json").is_file():
        unit = patch * 2 ** (len(json.loads(config.read_text())["encoder_block_out_channels"]) - 1)
        if side % unit:
            raise BadSetup(f"--side {side} must be a multiple of {unit} with the autoencoder {vae}")


def keep_pairs(own: Mapping[str, Any], out: Path, held_out: int | None) -> Path:
    """The user's pictures as OUT/pairs; raises BadSetup naming what is wrong with them."""
    from training.captioned_pictures import open_pairs, read_pairs

    if not (own["images"] and own["captions"]):
        raise BadSetup("--images and --captions are given together: a folder of pictures and a table of them")
    pairs, folder = read_pairs(own["images"], own["captions"], side=own["side"]), out / "pairs"
    if held_out is not None and len(pairs.images) < held_out + HELD_FEWEST:
        most = max(1, len(pairs.images) // 5)
        raise BadSetup(
            f"--held-out {held_out} of {len(pairs.images)} pictures leaves fewer than {HELD_FEWEST}: "
            f"give more pictures or, for example, --held-out {most}"
        )
    if (out / "config.json").exists():
        if not folder.exists() or open_pairs(folder).fingerprint != pairs.fingerprint:
            raise BadSetup(f"{out} holds a run on other pictures; choose another --out or delete it")
    else:
        pairs.save(folder)
    return folder


def perform(run: str, values: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Train here or submit, and say where the result is or how to look."""
    from jobs.job import State
    from training import runs

    request = runs.TrainingRequest(run, values, packing(own, values) if own.get("name") else {})
    if request.pack:
        runs.check_place(Path(request.pack["out"]), Path(values["out"]))
    if own["queue"]:
        click.echo(submit(request, own["queue"]))
        return
    pace = runs.Pace(request.steps)

    def show(step: int, losses: Mapping[str, float]) -> None:
        line = runs.Training(run, State.RUNNING, step, request.steps, losses, left=pace.left(step)).line()
        click.echo(line)

    click.echo(f"done: {runs.perform(request, show)}")


def packing(own: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of `ship`; drawings of a set that has sheets go with the model."""
    sheets, bank = Path(values["pairs"]) / "sheets.npz", ""
    if sheets.exists():
        import numpy as np

        bank = str(Path(str(np.load(sheets)["bank"])).resolve())
    return {
        "vae": values["vae"],
        "diffusion": values["out"],
        "bank": bank,
        "out": str((own["models"] / own["name"]).resolve()),
        "title": own["title"] or own["name"],
        "licence": own["licence"],
    }


def submit(request: Any, url: str) -> str:
    """Put the order into the queue; the training's id."""
    from jobs.celery_app import create_celery
    from jobs.config import JobsConfig
    from jobs.store.job_store import open_job_store
    from training import runs

    with create_celery(JobsConfig(redis=url)) as celery:
        job_store = open_job_store(url)
        try:
            return runs.submit(
                runs.Trainings(job_store.connection), request, lambda training: runs.send_training(celery, training)
            )
        finally:
            job_store.connection.close()


class Told(click.Group):
    """What the user can mend is said in one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Click's hook."""
        try:
            return super().invoke(ctx)
        except (MemoError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Told)
def train() -> None:
    """Train models on your own pictures; `pip install 'memoaized[gpu,train]'`."""


train.add_command(RunCommand("vae", (*PICTURES, *QUEUED), help="Train an autoencoder."))
train.add_command(RunCommand("diffusion", (*PICTURES, *PACKED, *QUEUED), help="Train a picture model."))
train.add_command(RunCommand("upscaler", (*PICTURES, *QUEUED), help="Train what enlarges pictures."))
train.add_command(RunCommand("search", (*PICTURES, *QUEUED), help="Search for good knobs of a picture model."))


@train.command()
@click.argument("training")
@click.option("--queue", required=True, envvar="JOBS_REDIS", help="redis://…, as it was submitted to.")
@click.option("--follow", is_flag=True, help="Go on telling until it ends.")
def status(training: str, queue: str, follow: bool) -> None:
    """Say how far a submitted training is."""
    from jobs.config import JobsConfig
    from jobs.store.job_store import open_job_store
    from training import runs

    job_store, last = open_job_store(JobsConfig(redis=queue).redis), ""
    try:
        while True:
            if (found := runs.Trainings(job_store.connection).look(training)) is None:
                raise BadSetup(f"no training {training} is known there")
            if found.line() != last:
                click.echo(last := found.line())
            if found.state.final or not follow:
                break
            time.sleep(1.0)
    finally:
        job_store.connection.close()
    click.get_current_context().exit(int(bool(found.error)))
