"""LoRA adapters of a Stable Diffusion model: files in its folder `adapters/`, loaded when they are first asked for.

Low-rank adaptation: https://arxiv.org/abs/2106.09685. The network and the text encoders put one on each for
themselves, for they work in threads of their own. Knows weights; neither recipes nor queues.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers.utils.peft_utils import set_weights_and_activate_adapters
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import nn

from memo import BadSetup

from .catalogue import ADAPTERS, adapter_parts

NETWORK, TEXT = "unet", ("text_encoder", "text_encoder_2")  # parts of a pipeline


class Adapters:
    """The adapters of one pipeline's networks, which are where they calculate already."""

    def __init__(self, pipe: Any, folder: Path) -> None:
        self.pipe, self.folder = pipe, folder / ADAPTERS
        self.worn: dict[str, str] = {}  # by part
        self.loaded: set[tuple[str, str]] = set()  # part and name

    def on_network(self, adapter: str) -> None:
        """The denoising network wears it from now on; for the thread of the step loop. Raises BadSetup."""
        self.put_on(NETWORK, adapter)

    def on_text(self, adapter: str) -> None:
        """The text encoders wear it from now on; for whoever holds their lock. Raises BadSetup."""
        for part in TEXT:
            if getattr(self.pipe, part, None) is not None:
                self.put_on(part, adapter)

    @torch.inference_mode(False)
    def put_on(self, part: str, adapter: str) -> None:
        """Change what this part wears, if it is not that already; with "" it is as if none had ever been loaded."""
        if self.worn.get(part, "") == adapter:
            return
        network = getattr(self.pipe, part)
        if adapter:
            name, weight, _ = adapter_parts(adapter)
            if (part, name) not in self.loaded:
                self.load(part, name)
            set_weights_and_activate_adapters(network, [name], [weight])
        switch(network, on=bool(adapter))
        self.worn[part] = adapter

    def load(self, part: str, name: str) -> None:
        """Lay the adapter's weights beside those of this part; raises BadSetup naming the file."""
        path = self.folder / f"{name}.safetensors"
        more = {"unet_config": self.pipe.unet.config} if hasattr(self.pipe, TEXT[1]) else {}
        try:
            state, alphas = self.pipe.lora_state_dict(str(self.folder), weight_name=path.name, **more)[:2]
            if not any(key.startswith((NETWORK + ".", TEXT[0])) for key in state):
                raise ValueError("it holds no weights for this kind of model")
            if any(key.startswith(part + ".") for key in state):
                self.lay(part, state, alphas, name)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise BadSetup(f"the adapter {path} cannot be used with this model: {error}") from error
        self.loaded.add((part, name))

    def lay(self, part: str, state: Any, alphas: Any, name: str) -> None:
        """By diffusers' own loaders."""
        network = getattr(self.pipe, part)
        if part == NETWORK:
            self.pipe.load_lora_into_unet(state, alphas, network, adapter_name=name)
        else:
            self.pipe.load_lora_into_text_encoder(state, alphas, network, prefix=part, adapter_name=name)


def switch(network: nn.Module, *, on: bool) -> None:
    """Let the adapters of all layers count, or none."""
    for layer in network.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.enable_adapters(enabled=on)
