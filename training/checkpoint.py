"""Checkpoints of a training run: state on disk, averaged weights and the loss table.

All randomness of step n comes from a generator seeded with (seed, n). The number of the step therefore replaces the
state of the random generator, and a resumed run continues exactly as if it had never stopped.
"""

import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from disk.durable_files import move_durably, write_durably
from memo.errors import BadSetup
from training import OnRow

from .knobs import to_json

STATE = "state.pt"
DATASET = "dataset.pt"  # encoded pictures of a diffusion run; computed again if its knobs change
MAY_CHANGE = ("steps", "checkpoint_minutes", "threads", "out")


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of all random numbers in one step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def open_run(knobs: Any, *, state: str = STATE, may_change: Sequence[str] = MAY_CHANGE) -> Path:
    """Create or reopen the folder of a run and write its `config.json`; returns the folder.

    Raises BadSetup if the folder holds the file `state` and knobs other than `may_change` differ from those it was
    made with. Without that file, changed knobs delete the encoded pictures.
    """
    folder: Path = knobs.out
    folder.mkdir(parents=True, exist_ok=True)
    config, values = folder / "config.json", to_json(knobs)
    if config.exists():
        changed = difference(json.loads(config.read_text()), json.loads(json.dumps(values)), may_change)
        if changed and (folder / state).exists():
            raise BadSetup(f"{folder} holds a run with other knobs ({changed}); choose another folder or delete it")
        if changed:
            (folder / DATASET).unlink(missing_ok=True)
    write_durably(config, json.dumps(values, indent=2))
    return folder


def difference(old: dict[str, Any], new: dict[str, Any], may_change: Sequence[str]) -> str:
    """The changed knobs as text, for example "batch 4 → 5"; "" if only knobs in `may_change` differ."""
    changed = [name for name in new if name not in may_change and new[name] != old.get(name)]
    return ", ".join(f"{name} {old.get(name)!r} → {new[name]!r}" for name in changed)


def save_state(
    folder: Path, *, step: int, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write the state in one step: a kill or a power cut at any moment leaves either the old or the new file."""
    parts = {
        "step": step,
        "model": model.state_dict(),
        "ema": ema.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(parts, folder / f"{STATE}.new")
    move_durably(folder / f"{STATE}.new", folder / STATE)


def load_state(folder: Path, *, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the state in the folder, if any, into model, average and optimizer; returns the number of steps done."""
    if not (folder / STATE).exists():
        return 0
    parts = torch.load(folder / STATE, weights_only=True)
    model.load_state_dict(parts["model"])
    ema.load_state_dict(parts["ema"])
    optimizer.load_state_dict(parts["optimizer"])
    return int(parts["step"])


@torch.no_grad()
def update_average(ema: nn.Module, model: nn.Module, *, step: int, max_decay: float) -> None:
    """Update the exponential moving average of the weights in place; the decay grows with the step up to `max_decay`.

    It is small at first, so that the random initial weights are soon forgotten.
    """
    decay = min(max_decay, (step + 1) / (step + 10))
    torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)


class LossTable:
    """`loss.csv`: mean losses by step, also written to `tensorboard/` if TensorBoard is installed.

    Rows after the step at which the run resumes are dropped. `on_row` is called with every row; an exception from it
    ends the run.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], *, step: int, on_row: OnRow | None = None) -> None:
        self.path, self.columns, self.on_row = path, columns, on_row
        self.sums, self.count = [0.0] * len(columns), 0
        rows = path.read_text().splitlines()[1:] if path.exists() else []
        earlier_rows = [row for row in rows if int(row.split(",")[0]) <= step]
        path.write_text("\n".join([",".join(("step", *columns)), *earlier_rows]) + "\n")
        self.curves = open_curves(path.parent / "tensorboard", step)
        if self.curves is not None:
            weakref.finalize(self, self.curves.close)

    def add(self, *values: float) -> None:
        """Add the losses of one step."""
        self.sums = [total + value for total, value in zip(self.sums, values, strict=True)]
        self.count += 1

    def write(self, step: int) -> str:
        """Append the means since the last row; returns the row as text."""
        means = [total / max(1, self.count) for total in self.sums]
        row = ",".join([str(step), *(f"{mean:.5f}" for mean in means)])
        with self.path.open("a") as file:
            file.write(row + "\n")
        self.sums, self.count = [0.0] * len(self.sums), 0
        self.report(step, dict(zip(self.columns, means, strict=True)))
        return row

    def report(self, step: int, means: dict[str, float]) -> None:
        """Pass a row to TensorBoard and to `on_row`."""
        if self.curves is not None:
            for name, mean in means.items():
                self.curves.add_scalar(name, mean, step)
            self.curves.flush()
        if self.on_row is not None:
            self.on_row(step, means)


def open_curves(folder: Path, step: int) -> Any:
    """A TensorBoard writer that continues after `step`; None if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
