"""Search for good knobs of a diffusion run by many short runs; bad ones are stopped early.

TPE (Bergstra et al. 2011) draws learning rate, width, target and noise schedule. Training losses of different targets
cannot be compared, so each network predicts the clean latents of held-out pictures at the same noise levels with the
same noise. The squared error of these latents ranks the trials. A killed search continues with its remaining trials.
"""

import csv
import logging
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from diffusers import AutoencoderTiny
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState
from torch import Tensor

from memo.errors import BadSetup
from training import OnRow
from training.captioned_pictures import MIN_PICTURES, open_captioned_pictures
from training.checkpoint import MAY_CHANGE, STATE, open_run
from training.knobs import from_arguments
from worker.engine.denoiser import Denoiser
from worker.engine.text_encoder import open_text_encoder

from . import train_diffusion
from .dataset import PictureDataset, open_dataset
from .objective import SCHEDULES, TARGETS, Objective, make_objective

log = logging.getLogger(__name__)

LEVELS = (0.2, 0.5, 1.0, 2.0, 5.0)  # ratios of the noise's standard deviation to the picture's
DATASET = "dataset.pt"
DATABASE = "search.db"
COLUMNS = ("trial", "state", "error", "steps", "learning_rate", "width", "target", "schedule", "seconds")
FINAL_STATES = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Knobs:
    """One search."""

    pairs: Path = Path("var/train/scenes")
    vae: Path = Path("var/train/vae/vae")
    out: Path = Path("var/train/search")
    trials: int = 20  # including stopped ones; may be raised later
    steps: int = 400  # of each trial
    lowest_rate: float = 1e-4
    highest_rate: float = 3e-3
    widths: tuple[int, ...] = (64, 96, 128)  # channels of the first level; each next level has 32 more
    levels: int = 3
    targets: tuple[str, ...] = ("v", "epsilon", "flow")
    schedules: tuple[str, ...] = ("cosine", "scaled-linear", "linear")  # unused with the target flow
    batch: int = 16
    patch: int = 2  # side of the square of latents that forms one cell
    heads: int = 4
    rungs: int = 8  # evaluations during a trial
    unstopped: int = 4  # trials that must finish before one may be stopped
    held_out: int = 64  # pictures for the evaluation; at most a fifth of the data set
    device: str = "cpu"  # or "cuda"
    seed: int = 1
    threads: int = 2


@dataclass(frozen=True)
class HeldOutTest:
    """What every trial is evaluated on: held-out pictures, and noise (pictures, channels, h, w)."""

    dataset: PictureDataset
    noise: Tensor

    @torch.no_grad()
    def error(self, model: Denoiser, objective: Objective, device: str) -> float:
        """Mean squared error of the predicted clean latents, over all noise levels."""
        pictures, rows = self.dataset.latents.float(), torch.arange(len(self.noise))
        nothing_dropped = torch.zeros(len(rows), dtype=torch.bool)
        conditioning = self.dataset.conditioning(rows, nothing_dropped, nothing_dropped).to(device)
        total = 0.0
        for level in LEVELS:
            step = nearest_timestep(objective, level)
            timesteps = torch.full((len(rows),), step)
            noisy, _ = objective.add_noise(pictures, self.noise, timesteps)
            predicted = model(noisy.to(device), timesteps.to(device), conditioning).float().cpu()
            total += (recover_clean_latents(objective, step, noisy, predicted) - pictures).square().mean().item()
        return total / len(LEVELS)


def nearest_timestep(objective: Objective, level: float) -> int:
    """The timestep whose ratio of noise to picture is nearest to the level."""
    return int((objective.sigma / objective.alpha).log().sub(math.log(level)).abs().argmin())


def recover_clean_latents(objective: Objective, step: int, noisy: Tensor, predicted: Tensor) -> Tensor:
    """The clean latents that follow from noisy latents and a prediction; solves the two equations of `Objective`."""
    alpha, sigma, noise_weight, picture_weight = (
        float(table[step])
        for table in (objective.alpha, objective.sigma, objective.noise_weight, objective.picture_weight)
    )
    return (noise_weight * noisy - sigma * predicted) / (noise_weight * alpha - sigma * picture_weight)


def train(knobs: Knobs, *, on_row: OnRow | None = None) -> Path:
    """Search, or resume, until `knobs.trials` are done; returns the folder, with `trials.csv` and `trials.png`."""
    check_knobs(knobs)
    pairs = open_captioned_pictures(knobs.pairs)
    folder = open_run(knobs, state=DATABASE, may_change=("trials", *(set(MAY_CHANGE) - {"steps"})))
    held_out_test = open_held_out_test(knobs, folder, pairs)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / DATABASE).resolve()}")
    try:
        study = open_study(knobs, storage)

        def report_trial(study: optuna.Study, trial: FrozenTrial) -> None:
            write_reports(study, folder)
            finished, best = finished_trials(study), lowest_error(study)
            log.info("trial %d: %s %s", trial.number, trial.state.name.lower(), trial.value)
            if on_row is not None:
                on_row(len(finished), {"error": best} if best is not None else {})

        remaining = knobs.trials - len(finished_trials(study))
        study.optimize(
            lambda trial: run_trial(trial, knobs, folder, held_out_test),
            n_trials=max(0, remaining),
            callbacks=[report_trial],
        )
        write_reports(study, folder)
        print(format_table(study))
    finally:
        storage.engine.dispose()
    return folder


def check_knobs(knobs: Knobs) -> None:
    """Raise BadSetup for unknown targets and schedules and for sizes that do not fit."""
    for name, choices, known in (("targets", knobs.targets, TARGETS), ("schedules", knobs.schedules, SCHEDULES)):
        if unknown := [choice for choice in choices if choice not in known]:
            raise BadSetup(f"{name}: {', '.join(unknown)} unknown; choose from {', '.join(known)}")
    if not 0 < knobs.lowest_rate < knobs.highest_rate:
        raise BadSetup(f"lowest_rate {knobs.lowest_rate} must be above 0 and below highest_rate {knobs.highest_rate}")
    for channels in {channel for width in knobs.widths for channel in channels_of(width, knobs.levels)}:
        if channels % 16 or channels % knobs.heads:
            raise BadSetup(
                f"widths: a level has {channels} channels, not a multiple of 16 and of heads {knobs.heads}"
            )


def channels_of(width: int, levels: int) -> tuple[int, ...]:
    """Channels of each level; each has 32 more than the level above."""
    return tuple(width + 32 * level for level in range(levels))


def open_held_out_test(knobs: Knobs, folder: Path, pairs: Any) -> HeldOutTest:
    """Encode the data set once and hold out some pictures; the trials share the rest as `dataset.pt`."""
    vae = AutoencoderTiny.from_pretrained(knobs.vae).eval().requires_grad_(False)
    dataset = open_dataset(folder / "all.pt", pairs, vae, open_text_encoder, knobs.pairs, knobs.patch)
    generator = torch.Generator().manual_seed(knobs.seed)
    order = torch.randperm(len(dataset.latents), generator=generator)
    count = min(knobs.held_out, len(order) // 5)
    if count < 1 or len(order) - count < MIN_PICTURES:
        raise BadSetup(
            f"held_out {knobs.held_out} of {len(order)} pictures: hold out at least 1 and leave {MIN_PICTURES}"
        )
    torch.save(asdict(take_rows(dataset, order[count:])), folder / DATASET)
    held_out = take_rows(dataset, order[:count])
    return HeldOutTest(held_out, torch.randn(held_out.latents.shape, generator=generator))


def take_rows(dataset: PictureDataset, rows: Tensor) -> PictureDataset:
    """A data set of these pictures only."""
    sheets = dataset.sheets
    if sheets is not None:
        sheets = replace(sheets, things=sheets.things[rows], shifts=sheets.shifts[rows])
    return replace(dataset, latents=dataset.latents[rows], caption_rows=dataset.caption_rows[rows], sheets=sheets)


def open_study(knobs: Knobs, storage: Any) -> optuna.Study:
    """Open or create the study; interrupted trials are repeated first."""
    studies = storage.get_all_studies()
    count = len(storage.get_all_trials(studies[0]._study_id)) if studies else 0
    study = optuna.create_study(
        storage=storage,
        study_name="search",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=knobs.seed + count, n_startup_trials=max(4, knobs.trials // 4)),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=knobs.unstopped, n_warmup_steps=knobs.steps // 4),
    )
    repeated_trials = {trial.user_attrs.get("instead_of") for trial in study.trials}
    for trial in study.get_trials(states=(TrialState.RUNNING, TrialState.FAIL)):
        if trial.state is TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        if trial.number not in repeated_trials:
            study.enqueue_trial(trial.params, user_attrs={"instead_of": trial.number})
    return study


def run_trial(trial: optuna.Trial, knobs: Knobs, folder: Path, held_out_test: HeldOutTest) -> float:
    """Train one network and return its error.

    Raises TrialPruned if the error is worse than the median at the same step, or not finite.
    """
    run = suggest_knobs(trial, knobs, folder)
    objective, started = make_objective(run.target, run.schedule, run.snr_cap), time.monotonic()
    run.out.mkdir(parents=True, exist_ok=True)
    if not (run.out / DATASET).exists():
        os.link(folder / DATASET, run.out / DATASET)

    def evaluate(step: int, _losses: Any) -> None:
        """Evaluate the last checkpoint, which was written with the previous row of losses."""
        if (run.out / STATE).exists():
            steps_done, error = evaluate_checkpoint(run, objective, held_out_test)
            trial.report(error, steps_done)
            if trial.should_prune() or not math.isfinite(error):
                raise optuna.TrialPruned

    try:
        train_diffusion.train(run, on_row=evaluate)
        _, error = evaluate_checkpoint(run, objective, held_out_test)
        if not math.isfinite(error):
            raise optuna.TrialPruned
    except optuna.TrialPruned:
        delete_checkpoint(run.out)
        raise
    finally:
        trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
    delete_checkpoint(run.out)
    return error


def suggest_knobs(trial: optuna.Trial, knobs: Knobs, folder: Path) -> train_diffusion.Knobs:
    """Draw the knobs of a trial; its folder is named after them, so that a repeated trial finds its checkpoint."""
    rate = trial.suggest_float("learning_rate", knobs.lowest_rate, knobs.highest_rate, log=True)
    width = trial.suggest_categorical("width", knobs.widths)
    target = trial.suggest_categorical("target", knobs.targets)
    schedule = trial.suggest_categorical("schedule", knobs.schedules) if target != "flow" else knobs.schedules[0]
    return train_diffusion.Knobs(
        pairs=knobs.pairs,
        vae=knobs.vae,
        out=folder / "trials" / f"{target}-{schedule}-{width}-{rate!r}",
        target=target,
        schedule=schedule,
        steps=knobs.steps,
        batch=knobs.batch,
        learning_rate=rate,
        patch=knobs.patch,
        channels=channels_of(width, knobs.levels),
        heads=knobs.heads,
        device=knobs.device,
        seed=knobs.seed,
        threads=knobs.threads,
        log_every=max(1, knobs.steps // knobs.rungs),
        checkpoint_minutes=0,
    )


def evaluate_checkpoint(
    run: train_diffusion.Knobs, objective: Objective, held_out_test: HeldOutTest
) -> tuple[int, float]:
    """(steps done, error) of the averaged network in the run's checkpoint."""
    parts = torch.load(run.out / STATE, weights_only=True)
    model = train_diffusion.build_model(run, held_out_test.dataset).to(run.device).eval()
    model.load_state_dict(parts["ema"])
    return int(parts["step"]), held_out_test.error(model, objective, run.device)


def delete_checkpoint(folder: Path) -> None:
    """Delete the weights and the data set of a finished trial; knobs, losses and samples stay."""
    for name in (STATE, DATASET):
        (folder / name).unlink(missing_ok=True)
    for part in ("unet", "adapter"):
        shutil.rmtree(folder / part, ignore_errors=True)


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Completed and stopped trials, the best first, stopped ones last."""
    trials = study.get_trials(deepcopy=False, states=FINAL_STATES)
    return sorted(trials, key=lambda trial: (trial.state is not TrialState.COMPLETE, error_of(trial)))


def lowest_error(study: optuna.Study) -> float | None:
    """The lowest error of a completed trial; None if there is none."""
    errors = [error_of(trial) for trial in finished_trials(study) if trial.state is TrialState.COMPLETE]
    return errors[0] if errors else None


def error_of(trial: FrozenTrial) -> float:
    """The error of a completed trial, or the last one before a trial was stopped."""
    if trial.state is TrialState.COMPLETE and trial.value is not None:
        return trial.value
    values = trial.intermediate_values
    return values[max(values)] if values else math.inf


def table_row(trial: FrozenTrial) -> dict[str, object]:
    """A trial as a row of the table: its values by the names in COLUMNS."""
    stopped = trial.state is TrialState.PRUNED
    last = max(trial.intermediate_values, default=0)
    return {
        **trial.params,
        "trial": trial.number,
        "state": "stopped" if stopped else "done",
        "error": f"{error_of(trial):.5f}",
        "steps": last if stopped else "all",
        "learning_rate": f"{trial.params['learning_rate']:.2e}",
        "schedule": trial.params.get("schedule", "-"),
        "seconds": trial.user_attrs.get("seconds", "-"),
    }


def write_reports(study: optuna.Study, folder: Path) -> None:
    """Write `trials.csv` and `trials.png`."""
    trials = finished_trials(study)
    with (folder / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(map(table_row, trials))
    plot([trial for trial in trials if math.isfinite(error_of(trial))]).savefig(folder / "trials.png")


def format_table(study: optuna.Study) -> str:
    """All trials as an aligned text table, the best first."""
    rows = [COLUMNS, *([str(table_row(trial)[name]) for name in COLUMNS] for trial in finished_trials(study))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def plot(trials: Sequence[FrozenTrial]) -> Figure:
    """Plot the error by trial and by each knob; stopped trials are hollow."""
    figure = Figure(figsize=(16, 3.4), layout="constrained")
    names = ("trial", "learning_rate", "width", "target", "schedule")
    for axis, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        for trial in trials:
            value = trial.number if name == "trial" else trial.params.get(name, "none")
            x = str(value) if name in ("width", "target", "schedule") else value
            fill = "full" if trial.state is TrialState.COMPLETE else "none"
            axis.plot([x], [error_of(trial)], "o", color="tab:blue", fillstyle=fill)
        axis.set_xlabel(name.replace("_", " "))
        if name == "learning_rate" and trials:
            axis.set_xscale("log")
    figure.supylabel("error of the clean latents")
    return figure


if __name__ == "__main__":
    train(from_arguments(Knobs, __doc__))
