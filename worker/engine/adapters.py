"""LoRA adapters of a model: files in its folder `adapters/`, loaded when they are first asked for.

Low-rank adaptation: https://arxiv.org/abs/2106.09685. In the step loop, the network and the text encoders put one on
each for themselves, for they work in threads of their own; a pipeline that paints by itself puts it on as a whole.
Knows weights; neither recipes nor queues.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.peft_utils import delete_adapter_layers, set_weights_and_activate_adapters
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import Tensor, nn

from jobs.models import ADAPTERS, adapter_digest, adapter_parts
from memo import BadSetup

NETWORK, TEXT = "unet", ("text_encoder", "text_encoder_2")  # parts of a pipeline
SIDES = {"A.weight": 1, "B.weight": 0}  # of its halves that are as long as those of the layer they are laid beside


class Adapters:
    """The adapters of one pipeline's networks for the step loop, which are where they calculate already."""

    def __init__(self, pipe: Any, folder: Path) -> None:
        self.pipe, self.folder = pipe, folder / ADAPTERS
        self.worn: dict[str, str] = {}  # by part
        self.loaded: set[tuple[str, str]] = set()  # parts, and digests of files

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
        name, weight, digest = adapter_parts(adapter)
        if name and (part, digest) not in self.loaded:
            self.load(part, name, digest)
        set_adapter(network, digest, weight)
        self.worn[part] = adapter

    def load(self, part: str, name: str, digest: str) -> None:
        """Lay the adapter's weights beside those of this part; raises BadSetup naming the file."""
        path = self.folder / f"{name}.safetensors"
        more = {"unet_config": self.pipe.unet.config} if hasattr(self.pipe, TEXT[1]) else {}
        with blaming(path):
            check_unchanged(path, digest)
            state, alphas = self.pipe.lora_state_dict(str(self.folder), weight_name=path.name, **more)[:2]
            if not any(key.startswith((NETWORK + ".", TEXT[0])) for key in state):
                raise ValueError("it holds no weights for this kind of model")
            if any(key.startswith(part + ".") for key in state):
                self.lay(part, state, alphas, digest)
        self.loaded.add((part, digest))

    def lay(self, part: str, state: Any, alphas: Any, name: str) -> None:
        """By diffusers' own loaders."""
        network = getattr(self.pipe, part)
        if part == NETWORK:
            self.pipe.load_lora_into_unet(state, alphas, network, adapter_name=name)
        else:
            self.pipe.load_lora_into_text_encoder(state, alphas, network, prefix=part, adapter_name=name)


class PipelineAdapters:
    """The adapters of a pipeline that paints by itself; for the one thread that it paints in."""

    def __init__(self, pipe: Any, folder: Path) -> None:
        self.pipe, self.folder = pipe, folder / ADAPTERS
        self.networks = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
        self.worn: str | None = ""  # None: a file has just been refused
        self.loaded: set[str] = set()  # digests of files

    @torch.inference_mode(False)
    def put_on(self, adapter: str) -> None:
        """All parts wear it from now on; with "" it is as if none had ever been loaded. Raises BadSetup."""
        if self.worn == adapter:
            return
        self.worn = None
        name, weight, digest = adapter_parts(adapter)
        if name and digest not in self.loaded:
            self.load(name, digest)
        for network in self.networks.values():
            set_adapter(network, digest, weight)
        self.worn = adapter

    def load(self, name: str, digest: str) -> None:
        """Lay this file's weights beside those of all parts, by diffusers' own loader; raises BadSetup naming it."""
        path = self.folder / f"{name}.safetensors"
        source = {"weight_name": path.name, "local_files_only": True}
        with blaming(path):
            check_unchanged(path, digest)
            found = self.pipe.lora_state_dict(str(self.folder), **source)
            state = found[0] if isinstance(found, tuple) else found
            self.check_layers(state)
            try:
                self.pipe.load_lora_weights(str(self.folder), adapter_name=digest, **source)
                self.check_taken(state, digest)
            except Exception:  # whatever it was: nothing half laid stays, and the error goes on
                self.remove(digest)
                raise
        self.loaded.add(digest)

    def check_layers(self, state: Mapping[str, Tensor]) -> None:
        """Raise ValueError for what diffusers would do to the networks themselves, or break off half done."""
        layers = dict(nn.ModuleDict(self.networks).named_modules())
        for key, half in state.items():
            if "lora" not in key:
                raise ValueError(f"besides low-rank layers it holds {key}")
            name, _, which = key.rpartition(".lora_")
            weight, side = getattr(layers.get(name), "weight", None), SIDES.get(which)
            if weight is not None and side is not None and half.shape[side] != weight.shape[side]:
                raise ValueError(f"its {key} is for a layer of {half.shape[side]}, not {weight.shape[side]}")

    def check_taken(self, state: Mapping[str, Tensor], digest: str) -> None:
        """Raise ValueError if diffusers left out layers of the file for which it found no place."""
        held = {key.rpartition("lora")[0] for key in state}
        layers = [layer for network in self.networks.values() for layer in network.modules()]
        taken = sum(isinstance(layer, LoraLayer) and digest in layer.scaling for layer in layers)
        if taken < len(held):
            raise ValueError(f"this model has a place for {taken} of its {len(held)} layers")

    def remove(self, digest: str) -> None:
        """Take away again what was laid there."""
        for network in self.networks.values():
            set_weights_and_activate_adapters(network, [], [])
            delete_adapter_layers(network, digest)


def pipeline_adapters(pipe: Any, folder: Path) -> PipelineAdapters | None:
    """None for a pipeline that diffusers has no loader of adapters for."""
    return PipelineAdapters(pipe, folder) if hasattr(pipe, "load_lora_weights") else None


def check_unchanged(path: Path, digest: str) -> None:
    """Raise ValueError for a file that was replaced since, or OSError if it is gone."""
    if adapter_digest(path, path.stat().st_mtime_ns) != digest:
        raise ValueError("it was changed since the picture was asked for")


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Raise BadSetup that names the file for whatever is wrong with it."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise BadSetup(f"the adapter {path} cannot be used with this model: {error}") from error


def set_adapter(network: nn.Module, name: str, weight: float) -> None:
    """Let the adapter of this name count in all layers, as much as the weight says; with "" none."""
    if name:
        set_weights_and_activate_adapters(network, [name], [weight])
    for layer in network.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.enable_adapters(enabled=bool(name))
