"""Train the shipped picture model on an accelerator, with one command there.

    python bench/gpu/train_stickers.py pack                # on a machine with network: writes var/gpu, under 60 MB
    python3 bench/gpu/train_stickers.py train --out $OUT   # on the accelerator, from the root of the repository

Takes the drawings and the autoencoder from models/stickers, and the text model and missing packages from var/gpu.
Draws new scenes on all cores, trains in bfloat16 with large batches for `--minutes`, and writes OUT/stickers in files
of at most 16 MiB, with the loss table and a sheet of samples.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACK_FOLDER = ROOT / "var/gpu"
WHEELS = ("diffusers==0.42.1",)  # packages that a machine with torch and transformers may lack
TRIAL_STEPS = 40  # steps that measure the time of one


def main() -> None:
    """Run the command on the command line, pack or train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "train"))
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, without the drawing of scenes")
    parser.add_argument("--scenes", type=int, default=80_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("var/gpu-out"))
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if options.what == "pack":
        pack()
    else:
        install_wheels()
        train(options)


def pack() -> None:
    """Write the text model in float16 and the missing packages to var/gpu."""
    from transformers import AutoTokenizer, BertModel

    from memo.minilm import minilm_folder

    shutil.rmtree(PACK_FOLDER, ignore_errors=True)
    BertModel.from_pretrained(minilm_folder()).half().save_pretrained(PACK_FOLDER / "minilm")
    AutoTokenizer.from_pretrained(minilm_folder()).save_pretrained(PACK_FOLDER / "minilm")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "download", "--no-deps", "--dest", PACK_FOLDER / "wheels", *WHEELS], check=True)
    size = sum(file.stat().st_size for file in PACK_FOLDER.rglob("*") if file.is_file())
    print(f"{PACK_FOLDER}: {size / 2**20:.1f} MiB")


def install_wheels() -> None:
    """Install the packed wheels if diffusers is missing."""
    if importlib.util.find_spec("diffusers") is None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", "--no-deps", *sorted((PACK_FOLDER / "wheels").glob("*.whl"))], check=True)
        importlib.invalidate_caches()


def train(options: argparse.Namespace) -> None:
    """Draw scenes, encode the data set, train as many steps as fit into the minutes, and pack the model."""
    import torch
    from diffusers import AutoencoderTiny
    from transformers import AutoTokenizer, BertModel

    from training.captioned_pictures import open_captioned_pictures
    from training.checkpoint import open_run
    from training.pictures import packing, train_diffusion
    from training.pictures.dataset import open_dataset
    from training.pictures.objective import make_objective
    from training.scenes import compose
    from worker.engine.text_encoder import TextEncoder

    start, cores = time.monotonic(), os.cpu_count() or 1
    work = options.out / "work"
    scene_knobs = compose.Knobs(
        ROOT / "models/stickers/sprites", work / "scenes", options.scenes, processes=cores, held_out=10
    )
    pairs = open_captioned_pictures(compose.write_scenes(scene_knobs))
    text = TextEncoder(
        AutoTokenizer.from_pretrained(PACK_FOLDER / "minilm"),
        BertModel.from_pretrained(PACK_FOLDER / "minilm").float().eval(),
    )
    vae = AutoencoderTiny.from_pretrained(ROOT / "models/stickers/vae", torch_dtype=torch.float32).eval()
    knobs = train_diffusion.Knobs(
        pairs=scene_knobs.out,
        vae=ROOT / "models/stickers/vae",
        out=work / "run",
        batch=options.batch,
        learning_rate=2e-3 if options.batch >= 128 else 8e-4,
        device=options.device,
        bf16=options.device == "cuda",
        steps=TRIAL_STEPS,
        log_every=20,
    )
    objective = make_objective(knobs.target, knobs.schedule, knobs.snr_cap)
    folder = open_run(knobs)
    dataset = open_dataset(folder / "dataset.pt", pairs, vae, lambda: text, scene_knobs.out, knobs.patch)
    print(f"scenes and data set after {time.monotonic() - start:.0f} s", flush=True)
    trial_start = time.monotonic()
    train_diffusion.train_on(knobs, folder, dataset, objective, vae)
    trial_seconds = time.monotonic() - trial_start
    seconds_per_step = trial_seconds / TRIAL_STEPS  # cautious, since it includes start and sampling
    steps = TRIAL_STEPS + max(1, int((60 * options.minutes - trial_seconds) / seconds_per_step))
    train_diffusion.train_on(replace(knobs, steps=steps), folder, dataset, objective, vae)
    packing.pack_model(
        packing.Knobs(
            knobs.vae, folder, bank=str(scene_knobs.bank), out=options.out / "stickers", held_out=scene_knobs.held_out
        )
    )
    for name in ("loss.csv", "samples.png", "config.json"):
        shutil.copy(folder / name, options.out)
    summary = {
        "steps": steps,
        "batch": options.batch,
        "samples": steps * options.batch,
        "seconds": time.monotonic() - start,
    }
    (options.out / "run.json").write_text(json.dumps(summary, indent=2))
    shutil.rmtree(work)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
