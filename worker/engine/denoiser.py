"""The denoising network and its conditioning: text or a class label, and for some models a sheet of drawings.

Stock diffusers modules: a UNet, and for sheets a T2I-Adapter (Mou et al. 2023), whose features are computed once per
picture and added to the UNet's down blocks. Knows no prompts and no noise schedule.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from memo import BadSetup

from .compiled import CompiledNetwork

SetAdapter = Callable[[str], None]


@dataclass(frozen=True)
class Conditioning:
    """What n rows are to show.

    Token states (n, tokens, dimension) or class labels (n), and perhaps sheets (n, channels, 16, 16). SDXL also takes
    a pooled text embedding (n, 1280) and time ids (n, 6): the original size, the crop's corner and the target size.
    """

    states: Tensor | None = None
    labels: Tensor | None = None
    sheets: Tensor | None = None
    pooled: Tensor | None = None
    time_ids: Tensor | None = None
    notes: tuple[str, ...] = field(default=(), kw_only=True)  # what the rows leave out of the prompt, in words

    def __len__(self) -> int:
        return len(self.tensors()[0])

    def parts(self) -> Iterator[Tensor | None]:
        """All tensors in order, absent ones as None."""
        yield from (self.states, self.labels, self.sheets, self.pooled, self.time_ids)

    def tensors(self) -> list[Tensor]:
        """The fields that are present."""
        return [part for part in self.parts() if part is not None]

    def chunk(self, parts: int) -> list["Conditioning"]:
        """Like `Tensor.chunk`, for every field."""
        size = -(-len(self) // parts)
        return [self.rows(slice(start, start + size)) for start in range(0, len(self), size)]

    def rows(self, which: slice) -> "Conditioning":
        """A slice of the rows."""
        return Conditioning(*(None if part is None else part[which] for part in self.parts()))

    def to(self, *where: Any) -> "Conditioning":
        """Like `Tensor.to`, for every field."""
        return Conditioning(*(None if part is None else part.to(*where) for part in self.parts()))

    def to_dtype(self, dtype: torch.dtype) -> "Conditioning":
        """Floating-point fields in this dtype; integer labels stay as they are."""
        parts = (part.to(dtype) if part is not None and part.is_floating_point() else part for part in self.parts())
        return Conditioning(*parts)


class Denoiser(nn.Module):
    """The UNet, with a T2I-Adapter if the model has one, as one network."""

    def __init__(self, unet: Any, adapter: Any = None, set_lora: SetAdapter | None = None) -> None:
        super().__init__()
        self.unet, self.adapter, self.set_lora = unet, adapter, set_lora
        self.compiled: CompiledNetwork | None = None
        self.active_lora = ""

    def forward(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The prediction (n, channels, h, w) for noisy latents of that shape at one timestep each."""
        return self.predict(noisy, timesteps, conditioning, self.features(conditioning))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights. diffusers' own `dtype` reads all of them: a tenth of a small step's time."""
        dtype: torch.dtype = next(self.unet.parameters()).dtype
        return dtype

    def set_adapter(self, adapter: str) -> None:
        """Use this LoRA adapter from now on, "" for none; raises BadSetup if it cannot be loaded."""
        if self.set_lora is not None:
            self.set_lora(adapter)
        elif adapter:
            raise BadSetup(f"this model has no adapters: leave out {adapter!r}")
        self.active_lora = adapter

    def features(self, conditioning: Conditioning) -> list[Tensor]:
        """The T2I-Adapter's features of the sheets, one tensor per level of the UNet; empty without an adapter."""
        if self.adapter is None or conditioning.sheets is None:
            return []
        features: list[Tensor] = self.adapter(conditioning.sheets.to(self.dtype))
        return features

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        features: list[Tensor],
        *,
        reproducible: bool = False,
    ) -> Tensor:
        """Like `forward`, with precomputed features, which it does not change. The result is always float32.

        Compilation picks the fastest kernels at each start of the worker, so its rounding may change from start to
        start: `reproducible` uses the uncompiled network.
        """
        dtype = self.dtype
        conditioning = conditioning.to_dtype(dtype)
        options: dict[str, Any] = {}
        if features:
            options["down_intrablock_additional_residuals"] = list(features)
        if conditioning.labels is not None:
            options["class_labels"] = conditioning.labels
        if conditioning.states is not None:
            options["encoder_hidden_states"] = conditioning.states
        if conditioning.pooled is not None:
            options["added_cond_kwargs"] = {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}
        tensors = [noisy, *conditioning.tensors(), *features]
        compiled = self.compiled if not reproducible and not self.active_lora else None
        if compiled is None or not compiled.accepts(tensors):
            return call_network(self.unet, noisy.to(dtype), timesteps, options)
        predicted = call_network(compiled.network, noisy.to(dtype), timesteps, options)
        compiled.record_call(tensors)
        return predicted


def call_network(network: Any, noisy: Tensor, timesteps: Tensor, options: Mapping[str, Any]) -> Tensor:
    """The network's prediction in float32."""
    predicted: Tensor = network(noisy, timesteps, **options).sample
    return predicted.float()
