"""LoRA adapters of a model: files in its folder `adapters/`, loaded when a recipe first names them.

Low-rank adaptation: https://arxiv.org/abs/2106.09685. For the step loop, the network and the text encoders switch
adapters separately, because they run in different threads; a pipeline that paints by itself switches as a whole.
Knows weights; neither recipes nor queues.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.peft_utils import delete_adapter_layers, set_weights_and_activate_adapters
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from jobs.models import ADAPTERS, adapter_digest, split_adapter
from memo import BadSetup

DORA = ("dora_scale", "lora_magnitude_vector")  # parts of weights' names in DoRA files, which loaders take for LoRA
NETWORK, TEXT_ENCODERS = "unet", ("text_encoder", "text_encoder_2")  # parts of a pipeline
MATCHING_AXES = {"A.weight": 1, "B.weight": 0}  # the axis of each low-rank matrix that must match its layer's weight


class Adapters:
    """The adapters of a pipeline whose networks the step loop uses; the networks are already on their device."""

    def __init__(self, pipe: Any, folder: Path) -> None:
        self.pipe, self.folder = pipe, folder / ADAPTERS
        self.active: dict[str, str | None] = {}  # adapter by part; None: the last switch failed
        self.loaded: set[tuple[str, str]] = set()  # (part, digest of the file)

    def set_network(self, adapter: str) -> None:
        """Use an adapter in the denoising network; call it in the step loop's thread only. Raises BadSetup."""
        self.set_part(NETWORK, adapter)

    def set_text_encoders(self, adapter: str) -> None:
        """Use an adapter in the text encoders; the caller must hold their lock. Raises BadSetup."""
        for part in TEXT_ENCODERS:
            if getattr(self.pipe, part, None) is not None:
                self.set_part(part, adapter)

    @torch.inference_mode(False)
    def set_part(self, part: str, adapter: str) -> None:
        """Switch a part to this adapter; with "" it computes as if no adapter had ever been loaded."""
        if self.active.get(part, "") == adapter:
            return
        self.active[part] = None
        network = getattr(self.pipe, part)
        name, weight, digest = split_adapter(adapter)
        if name and (part, digest) not in self.loaded:
            self.load(part, name, digest)
        activate(network, digest, weight)
        self.active[part] = adapter

    def load(self, part: str, name: str, digest: str) -> None:
        """Load an adapter's weights for this part; raises BadSetup naming the file."""
        path = self.folder / f"{name}.safetensors"
        options = {"unet_config": self.pipe.unet.config} if hasattr(self.pipe, TEXT_ENCODERS[1]) else {}
        with errors_naming(path):
            check_file(path, digest)
            state, alphas = self.pipe.lora_state_dict(str(self.folder), weight_name=path.name, **options)[:2]
            if not any(key.startswith((NETWORK + ".", TEXT_ENCODERS[0])) for key in state):
                raise ValueError("it holds no weights for this kind of model")
            network = getattr(self.pipe, part)
            try:
                self.load_weights(part, state, alphas, digest)
                self.check_all_loaded(part, state, digest)
            except Exception:  # after any error, no half-loaded adapter may stay
                remove_adapter(network, digest)
                raise
        self.loaded.add((part, digest))

    def load_weights(self, part: str, state: Any, alphas: Any, name: str) -> None:
        """Load the state into one part with diffusers' own loaders, if it has weights for this part."""
        network = getattr(self.pipe, part)
        if not any(key.startswith(part + ".") for key in state):
            return
        if part == NETWORK:
            self.pipe.load_lora_into_unet(state, alphas, network, adapter_name=name)
        else:
            self.pipe.load_lora_into_text_encoder(state, alphas, network, prefix=part, adapter_name=name)

    def check_all_loaded(self, part: str, state: Mapping[str, Tensor], digest: str) -> None:
        """Raise ValueError if the file has layers that this part lacks, or layers of parts that the model lacks.

        Layers of other parts are checked when those are loaded.
        """
        layers = layer_names(state)
        own = sum(layer.startswith(part + ".") for layer in layers)
        others = [name for name in (NETWORK, *TEXT_ENCODERS) if name != part and getattr(self.pipe, name, None)]
        others_layers = sum(layer.startswith(tuple(f"{name}." for name in others)) for layer in layers)
        missing = own - count_loaded([getattr(self.pipe, part)], digest)
        check_count(others_layers + own - max(0, missing), len(layers))


class PipelineAdapters:
    """The adapters of a pipeline that paints by itself; for the pipeline's own thread only."""

    def __init__(self, pipe: Any, folder: Path) -> None:
        self.pipe, self.folder = pipe, folder / ADAPTERS
        self.networks = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
        self.active: str | None = ""  # None: the last switch failed
        self.loaded: set[str] = set()  # digests of files

    @torch.inference_mode(False)
    def set_adapter(self, adapter: str) -> None:
        """Use an adapter in all parts; with "" they compute as if none had ever been loaded. Raises BadSetup."""
        if self.active == adapter:
            return
        self.active = None
        name, weight, digest = split_adapter(adapter)
        if name and digest not in self.loaded:
            self.load(name, digest)
        for network in self.networks.values():
            activate(network, digest, weight)
        self.active = adapter

    def load(self, name: str, digest: str) -> None:
        """Load a file's weights into all parts with diffusers' own loader; raises BadSetup naming the file."""
        path = self.folder / f"{name}.safetensors"
        source = {"weight_name": path.name, "local_files_only": True}
        with errors_naming(path):
            check_file(path, digest)
            result = self.pipe.lora_state_dict(str(self.folder), **source)
            state = result[0] if isinstance(result, tuple) else result
            self.check_layers(state)
            try:
                self.pipe.load_lora_weights(str(self.folder), adapter_name=digest, **source)
                self.check_all_loaded(state, digest)
            except Exception:  # after any error, no half-loaded adapter may stay
                self.remove(digest)
                raise
        self.loaded.add(digest)

    def check_layers(self, state: Mapping[str, Tensor]) -> None:
        """Raise ValueError for a file that would replace the networks' own weights, or fail while it is loaded."""
        layers = dict(nn.ModuleDict(self.networks).named_modules())
        for key, matrix in state.items():
            if "lora" not in key:
                raise ValueError(f"it holds {key}, which is not a low-rank layer")
            name, _, matrix_name = key.rpartition(".lora_")
            weight, axis = getattr(layers.get(name), "weight", None), MATCHING_AXES.get(matrix_name)
            if weight is not None and axis is not None and matrix.shape[axis] != weight.shape[axis]:
                raise ValueError(f"its {key} is for a layer of size {matrix.shape[axis]}, not {weight.shape[axis]}")

    def check_all_loaded(self, state: Mapping[str, Tensor], digest: str) -> None:
        """Raise ValueError if diffusers skipped layers of the file because the model lacks them."""
        layers = layer_names(state)
        check_count(min(len(layers), count_loaded(self.networks.values(), digest)), len(layers))

    def remove(self, digest: str) -> None:
        """Delete an adapter's layers from all networks."""
        for network in self.networks.values():
            remove_adapter(network, digest)


def pipeline_adapters(pipe: Any, folder: Path) -> PipelineAdapters | None:
    """The adapters of a pipeline; None if diffusers cannot load adapters into it."""
    return PipelineAdapters(pipe, folder) if hasattr(pipe, "load_lora_weights") else None


def layer_names(state: Mapping[str, Tensor]) -> set[str]:
    """The names of the layers that a file is for: the part of each weight's name before "lora"."""
    return {key.rpartition("lora")[0] for key in state}


def count_loaded(networks: Iterable[nn.Module], digest: str) -> int:
    """The number of layers that an adapter was loaded into."""
    layers = (layer for network in networks for layer in network.modules())
    return sum(isinstance(layer, LoraLayer) and digest in layer.scaling for layer in layers)


def check_count(loaded: int, total: int) -> None:
    """Raise ValueError if not all layers of a file were loaded, because the model lacks the others."""
    if loaded < total:
        raise ValueError(f"this model has a place for {loaded} of its {total} layers")


def remove_adapter(network: nn.Module, digest: str) -> None:
    """Delete an adapter's layers from a network."""
    set_weights_and_activate_adapters(network, [], [])
    delete_adapter_layers(network, digest)


def check_file(path: Path, digest: str) -> None:
    """Raise ValueError if the file no longer has this digest, is a DoRA, or holds NaN or infinite weights.

    Raises OSError if it is missing.
    """
    if adapter_digest(path, path.stat().st_mtime_ns) != digest:
        raise ValueError("the file has changed since the picture was requested")
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        if any(part in name for name in names for part in DORA):
            raise ValueError("it is a DoRA, which cannot be used: convert or train it as a plain LoRA")
        for name in names:
            if not torch.isfinite(file.get_tensor(name).float()).all():
                raise ValueError(f"its {name} holds weights that are not finite")


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Raise any error of reading or loading an adapter's file as BadSetup with the file's name."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise BadSetup(f"the adapter {path} cannot be used with this model: {error}") from error


def activate(network: nn.Module, name: str, weight: float) -> None:
    """Use the adapter of this name in all layers, scaled by the weight; with "" use none."""
    if name:
        set_weights_and_activate_adapters(network, [name], [weight])
    for layer in network.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.enable_adapters(enabled=bool(name))
