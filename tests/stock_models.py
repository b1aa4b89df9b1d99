"""Stable Diffusion, SD 3, FLUX and DDPM of the real classes at toy size, as diffusers saves them."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

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
    """A CLIP tokenizer whose tokens are single letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    names = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(
        vocab={name: number for number, name in enumerate(names)}, merges=[], model_max_length=TOKENS
    )


def t5_tokenizer() -> T5TokenizerFast:
    """A T5 tokenizer whose tokens are single letters."""
    ends = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters = [(chr(code), -3.0) for code in range(ord("a"), ord("z") + 1)]
    return T5TokenizerFast(vocab=[*ends, *letters], extra_ids=0, model_max_length=TOKENS)


def t5_encoder() -> T5EncoderModel:
    """A small T5 encoder."""
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 2 * WIDTH, "num_heads": 4, "num_layers": 2}
    return T5EncoderModel(T5Config(**sizes, vocab_size=100, feed_forward_proj="gated-gelu")).eval()


def text_encoder(kind: Any) -> Any:
    """A small CLIP text encoder of the given class."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 4, "num_hidden_layers": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPTextConfig(**sizes, **ends, vocab_size=100, max_position_embeddings=TOKENS, projection_dim=WIDTH)
    return kind(config).eval()


def autoencoder(**more: Any) -> AutoencoderKL:
    """A small 8× autoencoder."""
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
    """Write a Stable Diffusion 1.x model; returns its folder."""
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
    return write_model(pipe, folder / "sd", "stable-diffusion")


def write_sdxl(folder: Path) -> Path:
    """Write an SDXL model; returns its folder."""
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
    return write_model(pipe, folder / "sdxl", "stable-diffusion-xl")


def write_ddpm(folder: Path) -> Path:
    """Write an unconditional DDPM model; returns its folder."""
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = UNet2DModel(sample_size=SIDE, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, **kinds)
    return write_model(DDPMPipeline(unet, DDPMScheduler()), folder / "ddpm", "pipeline", free=False, steps=3)


def write_sd3(folder: Path) -> Path:
    """Write an SD 3 model without its third text encoder; returns its folder."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=SIDE // 8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        out_channels=4,
        pos_embed_max_size=SIDE // 8,
    ).eval()
    texts = {f"text_encoder{number}": text_encoder(CLIPTextModelWithProjection) for number in ("", "_2")}
    pipe = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(shift_factor=0.0609),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
        **texts,
    )
    return write_model(pipe, folder / "sd3", "pipeline", steps=3, guidance_scale=4.0, sampler="euler")


def write_flux(folder: Path, *, name: str = "flux", schnell: bool = False) -> Path:
    """Write a model like FLUX.1-dev, which takes the guidance as input, or like FLUX.1-schnell, which has none."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=4 * 4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=not schnell,
        axes_dims_rope=(4, 4, 8),
    ).eval()
    pipe = FluxPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0 if schnell else 3.0, use_dynamic_shifting=not schnell),
        vae=autoencoder(shift_factor=0.1159, scaling_factor=0.3611),
        text_encoder=text_encoder(CLIPTextModel),
        text_encoder_2=t5_encoder(),
        tokenizer=tokenizer(),
        tokenizer_2=t5_tokenizer(),
    )
    guidance = 0.0 if schnell else 3.5
    return write_model(pipe, folder / name, "pipeline", steps=3, guidance_scale=guidance, sampler="euler")


def write_model(pipe: Any, folder: Path, family: str, *, free: bool = True, **defaults: Any) -> Path:
    """Write a pipeline and its model.json, with a size range if sizes are `free`; returns the folder."""
    pipe.save_pretrained(folder)
    usual = {"width": SIDE, "height": SIDE, "steps": 4, "guidance_scale": 5.0, "sampler": "ddim"}
    description = {
        "name": folder.name,
        "title": family,
        "licence": "Apache-2.0",
        "family": family,
        "sizes": [SIDE],
        "size_range": [SIDE, 2 * SIDE, 16] if free else None,
        "defaults": usual | defaults,
        "without": missing_parts(pipe),
        "script": "",
    }
    (folder / "model.json").write_text(json.dumps(description))
    return folder


def missing_parts(pipe: Any) -> list[str]:
    """The names of the third text encoder's parts, if the pipeline has none."""
    return [name for name, part in pipe.components.items() if part is None and name.endswith("_3")]
