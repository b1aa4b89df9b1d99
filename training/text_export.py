"""Export the packaged text model to ONNX with eight-bit weights, so that other processes encode text without torch.

`memo.embed` loads the exported files.
"""

import json
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from transformers import BertModel

from disk.durable_files import move_durably
from memo.minilm import SHA256, STATE_LAYERS, minilm_folder
from memo.onnx_embedder import ONNX_NAME, digest, is_intact

from .quantize import quantize


class MeanPooled(torch.nn.Module):
    """The mean of the token states, scaled to unit length (1_Pooling, 2_Normalize), and states of some layers."""

    def __init__(self, bert: torch.nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, tokens) int64, twice → (batch, 384) of unit length and (batch, tokens, layers, 384), in float32."""
        hidden = self.bert(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=torch.zeros_like(input_ids),
            output_hidden_states=True,
        ).hidden_states
        weights = attention_mask.unsqueeze(-1).to(hidden[-1].dtype)
        mean = (hidden[-1] * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=1), torch.stack([hidden[layer] for layer in STATE_LAYERS], 2)


def export_text_model(folder: Path) -> Path:
    """Write model, tokenizer and manifest unless the folder has them intact; returns the path of the model."""
    path = folder / ONNX_NAME
    if is_intact(path):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        model = Path(temporary) / ONNX_NAME
        tokenizer, manifest = model.with_suffix(".tokenizer.json"), model.with_suffix(".json")
        write_onnx(model)
        quantize(model)
        shutil.copyfile(minilm_folder() / "tokenizer.json", tokenizer)
        facts = {"weights": SHA256, "layers": STATE_LAYERS, "onnx": digest(model.read_bytes())}
        manifest.write_text(json.dumps(facts))
        for file in (tokenizer, model, manifest):
            move_durably(file, folder / file.name)
    return path


def load_bert() -> BertModel:
    """The packaged model without its pooling layer, ready for tracing."""
    transformers.logging.set_verbosity_error()  # else it warns about the pooling layer, which is left out on purpose
    transformers.logging.disable_progress_bar()
    folder = minilm_folder()
    bert = BertModel.from_pretrained(folder, attn_implementation="eager", add_pooling_layer=False)
    return bert.requires_grad_(False)


def write_onnx(path: Path) -> None:
    """Trace the model with dynamic batch and token axes, and write it to `path`."""
    ids = torch.randint(5, 1000, (2, 12))
    axes = {0: "batch", 1: "tokens"}
    with warnings.catch_warnings():
        # The tracing exporter is deprecated, but the new one needs onnxscript and writes the same file.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            MeanPooled(load_bert()),
            (ids, torch.ones_like(ids)),
            str(path),
            dynamo=False,
            opset_version=18,
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding", "states"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "batch"}, "states": axes},
        )
