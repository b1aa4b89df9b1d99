"""Training of the picture models and of the judge, and the export of the text model.

Read in this order:

1. `captioned_pictures`: the data set that every picture run reads, from pictures and a `caption_table`. `scenes/`
   draws one (`art` → `compose`).
2. `pictures/`: one file per run, read top to bottom: `train_vae` → `train_diffusion` → `train_upscaler`; `packing`
   writes the finished model; `knob_search` compares settings.
3. `checkpoint` and `knobs`: what all runs share, that is resumable state and command line options.
4. `judge/`: pairs of prompts, the comparing networks and their training (`train_judge`).
5. `runs` and `app`: the same runs as jobs of a training worker; `main` starts that worker.
6. `text_export` and `quantize`: the text model and the judge for ONNX Runtime.
"""

from collections.abc import Callable, Mapping

RUNS: Mapping[str, str] = {  # by name, the modules of runs; each has `Knobs` and `train(knobs, on_row=…)`
    "vae": "training.pictures.train_vae",
    "diffusion": "training.pictures.train_diffusion",
    "upscaler": "training.pictures.train_upscaler",
    "search": "training.pictures.knob_search",
}
PACKING = "training.pictures.packing"

OnRow = Callable[[int, Mapping[str, float]], None]  # called with (step, mean losses since the last row)
