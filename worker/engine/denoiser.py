"""The network that takes noise away, and what it is given to go by: text or a label, and perhaps a sheet of drawings.

Stock diffusers modules: a UNet, and for a sheet a T2I-Adapter (Mou et al. 2023), whose features are computed once a
picture and added to the UNet's way down. Knows no prompts and no noise schedule.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memo import BadSetup

from .compiled import Compiled

Wear = Callable[[str], None]


@dataclass(frozen=True)
class Conditioning:
    """What to paint, n rows each.

    Token states (n, tokens, width) or class labels (n), and perhaps sheets (n, channels, 16, 16). SDXL wants besides
    a pooled text embedding (n, 1280) and `frames` (n, 6): the picture's size once, where it was cut, its size now.
    """

    states: Tensor | None = None
    labels: Tensor | None = None
    sheets: Tensor | None = None
    pooled: Tensor | None = None
    frames: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tensors()[0])

    def parts(self) -> Iterator[Tensor | None]:
        """All of it."""
        yield from (self.states, self.labels, self.sheets, self.pooled, self.frames)

    def tensors(self) -> list[Tensor]:
        """What of it is there."""
        return [part for part in self.parts() if part is not None]

    def chunk(self, parts: int) -> list["Conditioning"]:
        """As `Tensor.chunk`, on all of it."""
        size = -(-len(self) // parts)
        return [self.rows(slice(start, start + size)) for start in range(0, len(self), size)]

    def rows(self, which: slice) -> "Conditioning":
        """Some of the rows."""
        return Conditioning(*(None if part is None else part[which] for part in self.parts()))

    def to(self, *where: Any) -> "Conditioning":
        """As `Tensor.to`, on all of it."""
        return Conditioning(*(None if part is None else part.to(*where) for part in self.parts()))

    def of(self, kind: torch.dtype) -> "Conditioning":
        """Floating-point numbers of this kind; labels stay what they are."""
        parts = (part.to(kind) if part is not None and part.is_floating_point() else part for part in self.parts())
        return Conditioning(*parts)


class Denoiser(nn.Module):
    """UNet and, if any, adapter as one network."""

    def __init__(self, unet: Any, adapter: Any = None, lora: Wear | None = None) -> None:
        super().__init__()
        self.unet, self.adapter, self.lora = unet, adapter, lora
        self.compiled: Compiled | None = None
        self.worn = ""

    def forward(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """What the network predicts, (n, channels, h, w), for noisy latents of that shape at one timestep each."""
        return self.predict(noisy, timesteps, conditioning, self.features(conditioning))

    @property
    def kind(self) -> torch.dtype:
        """Of the weights; a model's own `dtype` looks at all of them, which takes a tenth of a small step."""
        found: torch.dtype = next(self.unet.parameters()).dtype
        return found

    def set_adapter(self, adapter: str) -> None:
        """Calculate with this LoRA adapter from now on, "" for none; raises BadSetup for one that cannot be had."""
        if self.lora is not None:
            self.lora(adapter)
        elif adapter:
            raise BadSetup(f"this model has no adapters, so not {adapter!r}")
        self.worn = adapter

    def features(self, conditioning: Conditioning) -> list[Tensor]:
        """The adapter's view of the sheets, by level of the UNet; empty without an adapter."""
        if self.adapter is None or conditioning.sheets is None:
            return []
        features: list[Tensor] = self.adapter(conditioning.sheets.to(self.kind))
        return features

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        features: list[Tensor],
        *,
        exact: bool = False,
    ) -> Tensor:
        """As `forward`, with features computed before; they may be used again. Float32 out, whatever is within.

        What is compiled may round otherwise after each start, by what was fastest then: `exact` is not compiled.
        """
        kind = self.kind
        conditioning = conditioning.of(kind)
        more: dict[str, Any] = {}
        if features:
            more["down_intrablock_additional_residuals"] = list(features)
        if conditioning.labels is not None:
            more["class_labels"] = conditioning.labels
        if conditioning.states is not None:
            more["encoder_hidden_states"] = conditioning.states
        if conditioning.pooled is not None:
            more["added_cond_kwargs"] = {"text_embeds": conditioning.pooled, "time_ids": conditioning.frames}
        tensors = [noisy, *conditioning.tensors(), *features]
        compiled = self.compiled if not exact and not self.worn else None
        if compiled is None or not compiled.takes(tensors):
            return said_by(self.unet, noisy.to(kind), timesteps, more)
        predicted = said_by(compiled.network, noisy.to(kind), timesteps, more)
        compiled.took(tensors)
        return predicted


def said_by(network: Any, noisy: Tensor, timesteps: Tensor, more: Mapping[str, Any]) -> Tensor:
    """What this network predicts, in float32."""
    predicted: Tensor = network(noisy, timesteps, **more).sample
    return predicted.float()
