"""Opens the painter of a model, and picks how many pictures to paint at once."""

import json

from jobs.models import Model
from memo import BadSetup

from .port import Painter, PainterOptions

GPU_SLOTS = 8  # the measured step times decide how many of them really step together


def default_slots(device: str) -> int:
    """The default number of pictures at once: several on a GPU, one on a CPU, which one picture fills.

    Without torch it is one. Raises BadSetup if the device does not exist.
    """
    if device == "cpu":
        return 1
    try:
        from worker.engine.device import open_device
    except ImportError:  # without torch, only remote painters work
        return 1
    return GPU_SLOTS if open_device(device).cuda else 1


def open_painter(model: Model, options: PainterOptions) -> Painter:
    """Load the model's weights, or open the remote service that has them; raises BadSetup if something is missing."""
    if model.remote:
        from .remote import open_remote

        return open_remote(json.loads((model.folder / "model.json").read_text()), options)
    try:
        from .diffusion import open_diffusion
    except ImportError as error:
        raise BadSetup(f"painting needs torch and diffusers: pip install 'memoaized[gpu]' ({error})") from error
    return open_diffusion(model, options)
