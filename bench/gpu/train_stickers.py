"""Train the shipped picture model on an accelerator, in one command there.

    python bench/gpu/train_stickers.py pack                     # where there is a network: var/gpu, under 60 MB
    python3 bench/gpu/train_stickers.py train --out $OUT         # on the accelerator, from the repository's root

It takes the drawings and the autoencoder from models/stickers, the text model and the packages that are missing there
from var/gpu, draws new scenes on all cores, trains with bfloat16 in large batches for the given minutes, and writes
OUT/stickers in pieces of at most 16 MiB, with the loss table and a sheet of samples.
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
CARRIED = ROOT / "var/gpu"
WHEELS = ("diffusers==0.42.1",)  # what a machine with torch and transformers may still lack
TRIAL = 40  # steps that tell how long one takes


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "train"))
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, without the drawing of scenes")
    parser.add_argument("--scenes", type=int, default=80_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("var/gpu-out"))
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if asked.what == "pack":
        pack()
    else:
        unpack()
        train(asked)


def pack() -> None:
    """Write the text model in float16 and the missing packages to var/gpu."""
    from transformers import AutoTokenizer, BertModel

    from memo.minilm import minilm_folder

    shutil.rmtree(CARRIED, ignore_errors=True)
    BertModel.from_pretrained(minilm_folder()).half().save_pretrained(CARRIED / "minilm")
    AutoTokenizer.from_pretrained(minilm_folder()).save_pretrained(CARRIED / "minilm")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "download", "--no-deps", "--dest", CARRIED / "wheels", *WHEELS], check=True)
    size = sum(file.stat().st_size for file in CARRIED.rglob("*") if file.is_file())
    print(f"{CARRIED}: {size / 2**20:.1f} MiB")


def unpack() -> None:
    """Install what was carried, where it is missing."""
    if importlib.util.find_spec("diffusers") is None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", "--no-deps", *sorted((CARRIED / "wheels").glob("*.whl"))], check=True)
        importlib.invalidate_caches()


def train(asked: argparse.Namespace) -> None:
    """Scenes, lesson, as many steps as fit, and the packed model."""
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

    begun, cores = time.monotonic(), os.cpu_count() or 1
    work = asked.out / "work"
    drawn = compose.Knobs(
        ROOT / "models/stickers/sprites", work / "scenes", asked.scenes, processes=cores, held_out=10
    )
    pairs = open_captioned_pictures(compose.write_scenes(drawn))
    text = TextEncoder(
        AutoTokenizer.from_pretrained(CARRIED / "minilm"),
        BertModel.from_pretrained(CARRIED / "minilm").float().eval(),
    )
    vae = AutoencoderTiny.from_pretrained(ROOT / "models/stickers/vae", torch_dtype=torch.float32).eval()
    knobs = train_diffusion.Knobs(
        pairs=drawn.out,
        vae=ROOT / "models/stickers/vae",
        out=work / "run",
        batch=asked.batch,
        learning_rate=2e-3 if asked.batch >= 128 else 8e-4,
        device=asked.device,
        bf16=asked.device == "cuda",
        steps=TRIAL,
        log_every=20,
    )
    goal = make_objective(knobs.target, knobs.schedule, knobs.snr_cap)
    folder = open_run(knobs)
    lesson = open_dataset(folder / "dataset.pt", pairs, vae, lambda: text, drawn.out, knobs.patch)
    print(f"scenes and lesson after {time.monotonic() - begun:.0f} s", flush=True)
    started = time.monotonic()
    train_diffusion.train_on(knobs, folder, lesson, goal, vae)
    pace = (time.monotonic() - started) / TRIAL  # with starting and sampling in it: a cautious guess
    steps = TRIAL + max(1, int((60 * asked.minutes - (time.monotonic() - started)) / pace))
    train_diffusion.train_on(replace(knobs, steps=steps), folder, lesson, goal, vae)
    packing.pack_model(
        packing.Knobs(knobs.vae, folder, bank=str(drawn.bank), out=asked.out / "stickers", held_out=drawn.held_out)
    )
    for name in ("loss.csv", "samples.png", "config.json"):
        shutil.copy(folder / name, asked.out)
    seen = {"steps": steps, "batch": asked.batch, "samples": steps * asked.batch, "seconds": time.monotonic() - begun}
    (asked.out / "run.json").write_text(json.dumps(seen, indent=2))
    shutil.rmtree(work)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
