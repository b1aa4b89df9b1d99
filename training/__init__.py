"""Training: the picture models, the judge, and the export of the text model."""

from collections.abc import Callable, Mapping

RUNS: Mapping[str, str] = {  # each module has `Knobs`, and `train(knobs, on_row=…)`
    "vae": "training.pictures.train_vae",
    "diffusion": "training.pictures.train_diffusion",
    "upscaler": "training.pictures.train_upscaler",
    "search": "training.pictures.knob_search",
}
PACKING = "training.pictures.packing"

OnRow = Callable[[int, Mapping[str, float]], None]  # called with (step, mean losses since the row before)
