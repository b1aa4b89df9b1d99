"""A picture model of the real classes at toy size, with random weights: it paints colourful noise in milliseconds.

`python tests/tiny_model.py FOLDER` writes it to FOLDER/stickers.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DPMSolverMultistepScheduler, UNet2DConditionModel


def write_tiny_model(folder: Path, *, name: str = "stickers", seed: int = 0, slow: bool = False) -> Path:
    """Write a model folder that `jobs.models` and `worker.painters.diffusion` can read; returns the folder.

    A `slow` model paints at 256 pixels with more channels: 0.1 s a step, long enough to watch.
    """
    channels, native = (128, 256) if slow else (16, 64)
    torch.manual_seed(seed)
    target = folder / name
    unet = UNet2DConditionModel(
        sample_size=native // 8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(channels, channels),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=384,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )
    schedule = DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )
    unet.save_pretrained(target / "unet")
    vae.save_pretrained(target / "vae")
    schedule.save_pretrained(target / "scheduler")
    description = {
        "name": name,
        "title": "Slow" if slow else "Tiny",
        "licence": "Apache-2.0",
        "native_size": native,
        "sizes": [64, 128, 256],
        "defaults": {"steps": 8, "guidance_scale": 3.0, "sampler": "dpm++2m", "schedule": "native"},
    }
    (target / "model.json").write_text(json.dumps(description))
    return target


def write_tiny_vae(folder: Path) -> Path:
    """Write an untrained 8× autoencoder alone; returns its folder."""
    torch.manual_seed(0)
    AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(0, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 0),
        scaling_factor=1.0,
    ).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(write_tiny_model(Path(sys.argv[1])))
