"""Search for good knobs of a diffusion run: many short runs, each judged by the same measure, bad ones stopped early.

Learning rate, width, target and noise schedule are drawn by TPE (Bergstra et al. 2011). Training losses of different
targets cannot be compared, so each network is asked for the clean latents of held-out pictures at the same noise
levels under the same noise, and judged by the squared error of those. A killed search goes on with what is left.
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
from training.captioned_pictures import FEWEST, open_pairs
from training.checkpoint import MAY_CHANGE, STATE, open_run
from training.knobs import from_arguments
from worker.engine.denoiser import Denoiser
from worker.engine.text_encoder import open_text_encoder

from . import train_diffusion
from .dataset import PictureDataset, open_dataset
from .objective import SCHEDULES, TARGETS, Objective, objective

log = logging.getLogger(__name__)

LEVELS = (0.2, 0.5, 1.0, 2.0, 5.0)  # deviation of the noise beside a picture of deviation 1
LESSON = "lesson.pt"
STORE = "search.db"
COLUMNS = ("trial", "state", "error", "steps", "learning_rate", "width", "target", "schedule", "seconds")
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Knobs:
    """One search."""

    pairs: Path = Path("var/train/scenes")
    vae: Path = Path("var/train/vae/vae")
    out: Path = Path("var/train/search")
    trials: int = 20  # stopped ones included; more may be added
    steps: int = 400  # of each trial
    lowest_rate: float = 1e-4
    highest_rate: float = 3e-3
    widths: tuple[int, ...] = (64, 96, 128)  # channels of the first level; each further level has 32 more
    levels: int = 3
    targets: tuple[str, ...] = ("v", "epsilon", "flow")
    schedules: tuple[str, ...] = ("cosine", "scaled-linear", "linear")  # a flow has none
    batch: int = 16
    patch: int = 2  # latents of the autoencoder that form a cell, across and down
    heads: int = 4
    rungs: int = 8  # times that a trial is judged on its way
    unstopped: int = 4  # trials before any is stopped
    held_out: int = 64  # pictures that trials are judged by; a fifth of a small set
    device: str = "cpu"  # or "cuda"
    seed: int = 1
    threads: int = 2


@dataclass(frozen=True)
class Exam:
    """What every trial is judged by: pictures it was not taught, and noise (pictures, channels, h, w)."""

    dataset: PictureDataset
    noise: Tensor

    @torch.no_grad()
    def error(self, model: Denoiser, goal: Objective, device: str) -> float:
        """Mean squared error of the clean latents that the network makes out, over all noise levels."""
        pictures, rows = self.dataset.latents.float(), torch.arange(len(self.noise))
        shown = torch.zeros(len(rows), dtype=torch.bool)
        conditioning = self.dataset.conditioning(rows, shown, shown).to(device)
        total = 0.0
        for level in LEVELS:
            step = nearest(goal, level)
            when = torch.full((len(rows),), step)
            noisy, _ = goal.noised(pictures, self.noise, when)
            predicted = model(noisy.to(device), when.to(device), conditioning).float().cpu()
            total += (picture_in(goal, step, noisy, predicted) - pictures).square().mean().item()
        return total / len(LEVELS)


def nearest(goal: Objective, level: float) -> int:
    """The timestep whose ratio of noise to picture is nearest to the level."""
    return int((goal.spread / goal.signal).log().sub(math.log(level)).abs().argmin())


def picture_in(goal: Objective, step: int, noisy: Tensor, predicted: Tensor) -> Tensor:
    """The clean latents, by the two mixtures of noise and picture that `Objective` gives."""
    signal, spread, to_noise, to_picture = (
        float(table[step]) for table in (goal.signal, goal.spread, goal.to_noise, goal.to_picture)
    )
    return (to_noise * noisy - spread * predicted) / (to_noise * signal - spread * to_picture)


def train(knobs: Knobs, *, on_row: OnRow | None = None) -> Path:
    """Search or go on until `knobs.trials` are done; returns the folder, with `trials.csv` and `trials.png`."""
    check(knobs)
    pairs = open_pairs(knobs.pairs)
    folder = open_run(knobs, state=STORE, may_change=("trials", *(set(MAY_CHANGE) - {"steps"})))
    exam = open_exam(knobs, folder, pairs)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / STORE).resolve()}")
    try:
        study = open_study(knobs, storage)

        def tell(study: optuna.Study, trial: FrozenTrial) -> None:
            report(study, folder)
            done, best = finished(study), best_of(study)
            log.info("trial %d: %s %s", trial.number, trial.state.name.lower(), trial.value)
            if on_row is not None:
                on_row(len(done), {"error": best} if best is not None else {})

        left = knobs.trials - len(finished(study))
        study.optimize(lambda trial: judged(trial, knobs, folder, exam), n_trials=max(0, left), callbacks=[tell])
        report(study, folder)
        print(table(study))
    finally:
        storage.engine.dispose()
    return folder


def check(knobs: Knobs) -> None:
    """Raise BadSetup for choices that there are not."""
    for name, conditioning, known in (("targets", knobs.targets, TARGETS), ("schedules", knobs.schedules, SCHEDULES)):
        if unknown := [choice for choice in conditioning if choice not in known]:
            raise BadSetup(f"{name}: {', '.join(unknown)} unknown; there are {', '.join(known)}")
    if not 0 < knobs.lowest_rate < knobs.highest_rate:
        raise BadSetup(f"lowest_rate {knobs.lowest_rate} must be above 0 and below highest_rate {knobs.highest_rate}")
    for channels in {channel for width in knobs.widths for channel in channels_of(width, knobs.levels)}:
        if channels % 16 or channels % knobs.heads:
            raise BadSetup(
                f"widths: {channels} channels of a level must be a multiple of 16 and of heads {knobs.heads}"
            )


def channels_of(width: int, levels: int) -> tuple[int, ...]:
    """Each level has 32 more than the one above."""
    return tuple(width + 32 * level for level in range(levels))


def open_exam(knobs: Knobs, folder: Path, pairs: Any) -> Exam:
    """Encode the set once, and keep some of it from the lesson that all trials share, `lesson.pt`."""
    vae = AutoencoderTiny.from_pretrained(knobs.vae).eval().requires_grad_(False)
    whole = open_dataset(folder / "whole.pt", pairs, vae, open_text_encoder, knobs.pairs, knobs.patch)
    chance = torch.Generator().manual_seed(knobs.seed)
    order = torch.randperm(len(whole.latents), generator=chance)
    count = min(knobs.held_out, len(order) // 5)
    if count < 1 or len(order) - count < FEWEST:
        raise BadSetup(f"held_out {knobs.held_out} of {len(order)} pictures: hold out 1, and leave {FEWEST}")
    torch.save(asdict(some(whole, order[count:])), folder / LESSON)
    held = some(whole, order[:count])
    return Exam(held, torch.randn(held.latents.shape, generator=chance))


def some(dataset: PictureDataset, rows: Tensor) -> PictureDataset:
    """The lesson with these pictures only."""
    sheets = dataset.sheets
    if sheets is not None:
        sheets = replace(sheets, things=sheets.things[rows], shifts=sheets.shifts[rows])
    return replace(dataset, latents=dataset.latents[rows], meaning_of=dataset.meaning_of[rows], sheets=sheets)


def open_study(knobs: Knobs, storage: Any) -> optuna.Study:
    """The study kept there; trials that were cut short are put first in the queue again."""
    before = storage.get_all_studies()
    count = len(storage.get_all_trials(before[0]._study_id)) if before else 0
    study = optuna.create_study(
        storage=storage,
        study_name="search",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=knobs.seed + count, n_startup_trials=max(4, knobs.trials // 4)),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=knobs.unstopped, n_warmup_steps=knobs.steps // 4),
    )
    taken_up = {trial.user_attrs.get("instead_of") for trial in study.trials}
    for trial in study.get_trials(states=(TrialState.RUNNING, TrialState.FAIL)):
        if trial.state is TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        if trial.number not in taken_up:
            study.enqueue_trial(trial.params, user_attrs={"instead_of": trial.number})
    return study


def judged(trial: optuna.Trial, knobs: Knobs, folder: Path, exam: Exam) -> float:
    """Train one network and return its error; raises TrialPruned when it is worse than most on the way."""
    run = draw(trial, knobs, folder)
    goal, begun = objective(run.target, run.schedule, run.snr_cap), time.monotonic()
    run.out.mkdir(parents=True, exist_ok=True)
    if not (run.out / LESSON).exists():
        os.link(folder / LESSON, run.out / LESSON)

    def judge(step: int, _losses: Any) -> None:
        """The checkpoint at hand is that of the row before."""
        if (run.out / STATE).exists():
            done, error = examine(run, goal, exam)
            trial.report(error, done)
            if trial.should_prune() or not math.isfinite(error):
                raise optuna.TrialPruned

    try:
        train_diffusion.train(run, on_row=judge)
        _, error = examine(run, goal, exam)
        if not math.isfinite(error):
            raise optuna.TrialPruned
    except optuna.TrialPruned:
        tidy(run.out)
        raise
    finally:
        trial.set_user_attr("seconds", round(time.monotonic() - begun, 1))
    tidy(run.out)
    return error


def draw(trial: optuna.Trial, knobs: Knobs, folder: Path) -> train_diffusion.Knobs:
    """The knobs of a trial, whose folder is named after them so that a repeated trial finds its checkpoint."""
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


def examine(run: train_diffusion.Knobs, goal: Objective, exam: Exam) -> tuple[int, float]:
    """(steps done, error) of the averaged network in the run's checkpoint."""
    parts = torch.load(run.out / STATE, weights_only=True)
    model = train_diffusion.build(run, exam.dataset).to(run.device).eval()
    model.load_state_dict(parts["ema"])
    return int(parts["step"]), exam.error(model, goal, run.device)


def tidy(folder: Path) -> None:
    """Keep of a finished trial its knobs, curve and samples."""
    for name in (STATE, LESSON):
        (folder / name).unlink(missing_ok=True)
    for part in ("unet", "adapter"):
        shutil.rmtree(folder / part, ignore_errors=True)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that need not be done again, the best first, stopped ones last."""
    trials = study.get_trials(deepcopy=False, states=DONE)
    return sorted(trials, key=lambda trial: (trial.state is not TrialState.COMPLETE, error_of(trial)))


def best_of(study: optuna.Study) -> float | None:
    """The lowest error of a trial that was not stopped."""
    errors = [error_of(trial) for trial in finished(study) if trial.state is TrialState.COMPLETE]
    return errors[0] if errors else None


def error_of(trial: FrozenTrial) -> float:
    """Its error, or the last one before it was stopped."""
    if trial.state is TrialState.COMPLETE and trial.value is not None:
        return trial.value
    values = trial.intermediate_values
    return values[max(values)] if values else math.inf


def row_of(trial: FrozenTrial) -> dict[str, object]:
    """What people want to know of a trial, by COLUMNS."""
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


def report(study: optuna.Study, folder: Path) -> None:
    """Write `trials.csv` and `trials.png`."""
    trials = finished(study)
    with (folder / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(map(row_of, trials))
    plot([trial for trial in trials if math.isfinite(error_of(trial))]).savefig(folder / "trials.png")


def table(study: optuna.Study) -> str:
    """All trials in columns, the best first."""
    rows = [COLUMNS, *([str(row_of(trial)[name]) for name in COLUMNS] for trial in finished(study))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def plot(trials: Sequence[FrozenTrial]) -> Figure:
    """Error by trial and by each knob; stopped trials hollow."""
    figure = Figure(figsize=(16, 3.4), layout="constrained")
    names = ("trial", "learning_rate", "width", "target", "schedule")
    for axis, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        for trial in trials:
            place = trial.number if name == "trial" else trial.params.get(name, "none")
            whole = trial.state is TrialState.COMPLETE
            where = str(place) if name in ("width", "target", "schedule") else place
            axis.plot([where], [error_of(trial)], "o", color="tab:blue", fillstyle="full" if whole else "none")
        axis.set_xlabel(name.replace("_", " "))
        if name == "learning_rate" and trials:
            axis.set_xscale("log")
    figure.supylabel("error of the clean latents")
    return figure


if __name__ == "__main__":
    train(from_arguments(Knobs, __doc__))
