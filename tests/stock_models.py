"""Stable Diffusion and SDXL of the real classes at toy size, with random weights, as diffusers saves them."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WIDTH, TOKENS, SIDE = 32, 16, 64
UNET = {
    "sample_size": SIDE // 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 8,
}
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
}


def tokenizer() -> CLIPTokenizer:
    """Letters, each a token of its own."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    names = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(
        vocab={name: number for number, name in enumerate(names)}, merges=[], model_max_length=TOKENS
    )


def text_encoder(kind: Any) -> Any:
    """A small one."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 4, "num_hidden_layers": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPTextConfig(**sizes, **ends, vocab_size=100, max_position_embeddings=TOKENS, projection_dim=WIDTH)
    return kind(config).eval()


def autoencoder(**more: Any) -> AutoencoderKL:
    """An 8× one."""
    blocks = 4
    return AutoencoderKL(
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=SIDE,
        **more,
    ).eval()


def write_stable_diffusion(folder: Path) -> Path:
    """A folder with model.json and a whole pipeline."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**UNET, cross_attention_dim=WIDTH, attention_head_dim=4).eval()
    parts = {"text_encoder": text_encoder(CLIPTextModel), "tokenizer": tokenizer()}
    pipe = StableDiffusionPipeline(
        vae=autoencoder(),
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **parts,
    )
    return written(pipe, folder / "sd", "stable-diffusion")


def write_sdxl(folder: Path) -> Path:
    """The same with two text encoders."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        **UNET,
        cross_attention_dim=2 * WIDTH,
        attention_head_dim=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    ).eval()
    pipe = StableDiffusionXLPipeline(
        vae=autoencoder(),
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        text_encoder=text_encoder(CLIPTextModel),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        add_watermarker=False,
    )
    return written(pipe, folder / "sdxl", "stable-diffusion-xl")


def written(pipe: Any, folder: Path, family: str) -> Path:
    """The pipeline and the file that describes it."""
    pipe.save_pretrained(folder)
    about = {
        "name": folder.name,
        "title": family,
        "licence": "Apache-2.0",
        "family": family,
        "sizes": [SIDE],
        "span": [SIDE, 2 * SIDE, 16],
        "defaults": {"width": SIDE, "height": SIDE, "steps": 4, "guidance_scale": 5.0, "sampler": "ddim"},
        "script": "",
    }
    (folder / "model.json").write_text(json.dumps(about))
    return folder
