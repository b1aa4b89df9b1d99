"""Which painter paints with a model, and how many pictures at once are worth it."""

import json

from jobs.models import Model
from memo import BadSetup

from .port import Painter, PainterOptions

GPU_SLOTS = 8  # of which as many step together as the measured times say


def usual_slots(device: str) -> int:
    """How many pictures at once are worth it there: several on a GPU; a CPU is filled by one, and so without torch.

    Raises BadSetup if the device is not there.
    """
    if device == "cpu":
        return 1
    try:
        from worker.engine.device import open_device
    except ImportError:  # then it paints only what others do for it
        return 1
    return GPU_SLOTS if open_device(device).cuda else 1


def open_painter(model: Model, means: PainterOptions) -> Painter:
    """Load the model's weights, or find the way to who has them; raises BadSetup when something is missing."""
    if model.remote:
        from .remote import open_remote

        return open_remote(json.loads((model.folder / "model.json").read_text()), means)
    try:
        from .diffusion import open_diffusion
    except ImportError as error:
        raise BadSetup(f"painting needs torch and diffusers: pip install 'memoaized[gpu]' ({error})") from error
    return open_diffusion(model, means)
