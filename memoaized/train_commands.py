"""`memoaized train …`: training runs as commands, on your own pictures, in this process or by a training worker.

The options are read from the runs' source code, and pictures are checked, before torch is loaded.
"""

import json
import re
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from memo import BadSetup
from training import RUNS
from training.knobs import Knob, inspect_knobs, read_knobs

from .command_group import FILE, FOLDER, ROOT, CommandGroup

SHIPPED_VAE = ROOT / "models" / "stickers" / "vae"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
MIN_TRAINING_PICTURES = 8  # that must remain after --held-out

PICTURES = (
    click.Option(["--images"], type=FOLDER, help="Folder of your pictures; with --captions."),
    click.Option(["--captions"], type=FILE, help="CSV with the columns file, and caption or label."),
    click.Option(
        ["--side"],
        type=click.IntRange(8),
        default=128,
        show_default=True,
        help="Crop and scale them to this size, px.",
    ),
)
QUEUE = (click.Option(["--queue"], help="redis://…: submit the run to a training worker."),)
EXPORT = (
    click.Option(["--name"], help="Export the result as a model of this name."),
    click.Option(["--models"], type=FOLDER, default=ROOT / "models", help="Folder of picture models."),
    click.Option(["--title"], help="The model's title on the page.  [default: its name]"),
    click.Option(["--licence"], default="not stated", show_default=True, help="The model's licence."),
)


class KnobType(click.ParamType[Any]):
    """The option type of a knob; a list's values are separated by commas."""

    def __init__(self, knob: Knob) -> None:
        self.knob, self.name = knob, knob.kind.lower()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the value; overrides click.ParamType."""
        try:
            return self.knob.parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the placeholder in --help; overrides click.ParamType."""
        return f"{self.knob.kind.upper()}{',…' if self.knob.is_list else ''}"


class RunCommand(click.Command):
    """A training run as a command, with `options` and an option for each knob, which are read when first needed."""

    def __init__(self, run: str, options: tuple[click.Option, ...], **settings: Any) -> None:
        super().__init__(run, callback=self.call, params=list(options), **settings)
        self.run, self.option_names = run, {option.name for option in options}

    @cached_property
    def knobs(self) -> list[Knob]:
        """The run's knobs; the run's module is imported only if a knob has a computed default."""
        try:
            knobs = read_knobs(RUNS[self.run])
        except TypeError:
            from training.runs import load_module

            knobs = inspect_knobs(load_module(RUNS[self.run]).Knobs)
        return [with_default_vae(knob) for knob in knobs]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options, then the knobs, then --help; overrides click.Command."""
        *options, help_option = super().get_params(ctx)
        return [*options, *map(knob_option, self.knobs), help_option]

    def call(self, **values: Any) -> None:
        """Check everything, then train here or submit the run."""
        options = {name: values.pop(name) for name in self.option_names}
        check_name(options.get("name"))
        knob_values = {name: json_value(name, value) for name, value in values.items()}
        if options["images"] or options["captions"]:
            check_side(options["side"], Path(knob_values.get("vae") or ""), knob_values.get("patch", 1))
            knob_values["pairs"] = str(save_pairs(options, Path(knob_values["out"]), knob_values.get("held_out")))
        train_or_submit(self.run, knob_values, options)


def with_default_vae(knob: Knob) -> Knob:
    """Return the knob, with the shipped autoencoder as its default if it is `vae`."""
    if knob.name != "vae":
        return knob
    default = SHIPPED_VAE if knob.kind == "Path" else str(SHIPPED_VAE)
    return Knob(knob.name, knob.kind, knob.is_list, default, knob.help)


def knob_option(knob: Knob) -> click.Option:
    """Return the command-line option of a knob."""
    if knob.kind == "bool":
        flags = [f"{knob.option}/--no-{knob.option[2:]}"]
        return click.Option(flags, default=knob.default, show_default=True, help=knob.help)
    if knob.default is None:
        return click.Option([knob.option], type=KnobType(knob), required=True, help=knob.help)
    default = knob.format(knob.default)
    return click.Option(
        [knob.option], type=KnobType(knob), default=default, show_default=bool(default), help=knob.help
    )


def json_value(name: str, value: Any) -> Any:
    """Return a knob's value as JSON has it; paths become absolute, so that a worker in another folder finds them."""
    if isinstance(value, Path) or (name in ("begin", "vae") and value):
        return str(Path(value).resolve())
    return list(value) if isinstance(value, tuple) else value


def check_name(name: str | None) -> None:
    """Raise BadSetup for a name that a model cannot have."""
    if name is not None and not NAME.fullmatch(name):
        raise BadSetup(f"--name {name!r}: use 1 to 64 lower case letters, digits and hyphens, no hyphen at the ends")


def check_side(side: int, vae: Path, patch: int) -> None:
    """Raise BadSetup if the autoencoder's reduction and the network's patch do not divide the side evenly."""
    if (config := vae / "config.json").is_file():
        unit = patch * 2 ** (len(json.loads(config.read_text())["encoder_block_out_channels"]) - 1)
        if side % unit:
            raise BadSetup(f"--side {side} must be a multiple of {unit} with the autoencoder {vae}")


def save_pairs(options: Mapping[str, Any], out: Path, held_out: int | None) -> Path:
    """Save the user's captioned pictures as OUT/pairs and return that folder; raises BadSetup if they cannot be used.

    A run that exists in OUT can only be continued with the same pictures.
    """
    from training.captioned_pictures import open_captioned_pictures, read_captioned_pictures

    if not (options["images"] and options["captions"]):
        raise BadSetup("give --images and --captions together: a folder of pictures and a CSV of their captions")
    pairs = read_captioned_pictures(options["images"], options["captions"], side=options["side"])
    folder = out / "pairs"
    if held_out is not None and len(pairs.images) < held_out + MIN_TRAINING_PICTURES:
        most = max(1, len(pairs.images) // 5)
        raise BadSetup(
            f"--held-out {held_out} of {len(pairs.images)} pictures leaves fewer than {MIN_TRAINING_PICTURES}: "
            f"give more pictures or, for example, --held-out {most}"
        )
    if (out / "config.json").exists():
        if not folder.exists() or open_captioned_pictures(folder).fingerprint != pairs.fingerprint:
            raise BadSetup(f"{out} holds a run on other pictures: choose another --out, or delete that folder")
    else:
        pairs.save(folder)
    return folder


def train_or_submit(run: str, knob_values: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Train here and print where the result is, or submit the run to --queue and print the training's id."""
    from jobs.job import State
    from training import runs

    export = export_knobs(options, knob_values) if options.get("name") else {}
    request = runs.TrainingRequest(run, knob_values, export)
    if request.pack:
        runs.check_model_name(Path(request.pack["out"]), Path(knob_values["out"]))
    if options["queue"]:
        click.echo(submit(request, options["queue"]))
        return
    estimate = runs.TimeEstimate(request.steps)

    def show(step: int, losses: Mapping[str, float]) -> None:
        line = runs.Training(
            run, State.RUNNING, step, request.steps, losses, seconds_left=estimate.seconds_left(step)
        ).summary()
        click.echo(line)

    click.echo(f"done: {runs.run_training(request, show)}")


def export_knobs(options: Mapping[str, Any], knob_values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the knobs for exporting the model, with a bank of drawings if its pictures have sprite sheets."""
    sheets, bank = Path(knob_values["pairs"]) / "sheets.npz", ""
    if sheets.exists():
        import numpy as np

        bank = str(Path(str(np.load(sheets)["bank"])).resolve())
    return {
        "vae": knob_values["vae"],
        "diffusion": knob_values["out"],
        "bank": bank,
        "out": str((options["models"] / options["name"]).resolve()),
        "title": options["title"] or options["name"],
        "licence": options["licence"],
    }


def submit(request: Any, url: str) -> str:
    """Put the request into the queue and return the training's id."""
    from jobs.celery_app import create_celery
    from jobs.config import JobsConfig
    from jobs.store.job_store import open_job_store
    from training import runs

    with create_celery(JobsConfig(redis=url)) as celery:
        job_store = open_job_store(url)
        try:
            return runs.submit(
                runs.TrainingStore(job_store.connection),
                request,
                lambda training: runs.send_training(celery, training),
            )
        finally:
            job_store.connection.close()


@click.group(cls=CommandGroup)
def train() -> None:
    """Train models on your own pictures; needs `pip install 'memoaized[gpu,train]'`."""


train.add_command(RunCommand("vae", (*PICTURES, *QUEUE), help="Train an autoencoder."))
train.add_command(RunCommand("diffusion", (*PICTURES, *EXPORT, *QUEUE), help="Train a picture model."))
train.add_command(RunCommand("upscaler", (*PICTURES, *QUEUE), help="Train an upscaler."))
train.add_command(RunCommand("search", (*PICTURES, *QUEUE), help="Search for good knobs of a picture model."))


@train.command()
@click.argument("training")
@click.option("--queue", required=True, envvar="JOBS_REDIS", help="The redis://… to which it was submitted.")
@click.option("--follow", is_flag=True, help="Keep printing progress until it ends.")
def status(training: str, queue: str, follow: bool) -> None:
    """Show the progress of a submitted training."""
    from jobs.config import JobsConfig
    from jobs.store.job_store import open_job_store
    from training import runs

    job_store, last = open_job_store(JobsConfig(redis=queue).redis), ""
    try:
        while True:
            if (stored := runs.TrainingStore(job_store.connection).find(training)) is None:
                raise BadSetup(f"there is no training {training} at this --queue: check its id")
            if stored.summary() != last:
                click.echo(last := stored.summary())
            if stored.state.final or not follow:
                break
            time.sleep(1.0)
    finally:
        job_store.connection.close()
    click.get_current_context().exit(int(bool(stored.error)))
