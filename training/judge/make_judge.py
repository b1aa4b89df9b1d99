"""Make a judge with one command: `memoaized judge train --data FOLDER`.

It splits the labelled pairs, trains a relation network, and packs it together with the shipped aligning networks. If
it is stopped, the same command continues from the last checkpoint.
"""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from disk.durable_files import write_durably
from memo.judge.factory import SHIPPED
from training.knobs import from_arguments
from training.pairs import splits
from training.pairs.sampling import MEASURED_FILES

from . import judge_packing, train_relations

log = logging.getLogger(__name__)

KEPT = ("aligning-1.onnx", "aligning-2.onnx")  # of the shipped judge
FIGURES = "figures.json"


@dataclass(frozen=True)
class Knobs:
    """Input and output folders, and how to train."""

    data: Path  # contains the folders judge, reuse and traces
    labels: tuple[str, ...] = ()  # more files of pairs, for example the answer of GET /api/v1/labels
    out: Path = Path("var/judge")  # receives the folders pairs, relations and packed
    text: Path = Path("var/text")  # the exported text model
    steps: int = 4800
    precision: float = 0.95  # of the real pairs that the judge accepts, at least this share must be true
    bfloat16: bool = False  # compute with 16-bit numbers; twice as fast on processors with AMX, slow on others
    threads: int = 2
    seed: int = 1


def make_judge(knobs: Knobs) -> Path:
    """Run all steps that are not done yet, and return the judge's folder, to use as `MEMO_JUDGE=learned:FOLDER`.

    Raises BadSetup.
    """
    pairs, packed = knobs.out / "pairs", knobs.out / "packed"
    if not (pairs / splits.SUMMARY).exists():
        splits.split(splits.Knobs(knobs.data, pairs))
    run = train_relations.train(
        train_relations.Knobs(
            pairs=pairs,
            labels=knobs.labels,
            out=knobs.out / "relations",
            steps=knobs.steps,
            bfloat16=knobs.bfloat16,
            threads=knobs.threads,
            seed=knobs.seed,
        )
    )
    packed.mkdir(exist_ok=True)
    for name in KEPT:
        shutil.copyfile(SHIPPED / name, packed / name)
    fitted_on = tuple(str(pairs / "dev" / f"{name}.jsonl") for name in MEASURED_FILES)
    figures = judge_packing.pack_judge(
        judge_packing.Knobs(
            runs=(str(run),),
            kept=KEPT,
            fitted_on=fitted_on,
            precision=knobs.precision,
            text=knobs.text,
            out=packed,
        )
    )
    write_durably(packed / FIGURES, json.dumps(figures, indent=1) + "\n")
    log.info("the judge is in %s, its figures in %s", packed, packed / FIGURES)
    return packed


if __name__ == "__main__":
    make_judge(from_arguments(Knobs, __doc__))
