"""Upscalers: networks and pipelines, their files, and enlarging in tiles."""

import json

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel

from memo.errors import BadSetup
from tests.real import ROOT
from tests.stock_models import SCHEDULE, UNET, WIDTH, text_encoder, tokenizer
from worker.engine.device import Device
from worker.engine.upscaler import (
    FAMILY,
    EnlargingNetwork,
    NetworkUpscaler,
    PipelineUpscaler,
    open_model_upscaler,
    open_upscaler,
    save_upscaler,
    tiles,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def picture():
    """Noise, 20 × 13 px, away from black and white, because Pillow clips between its two passes."""
    return Image.fromarray(np.random.default_rng(1).integers(64, 192, (13, 20, 3), dtype=np.uint8))


@pytest.fixture
def network():
    """A network that changes the enlargement, as a trained one does."""
    torch.manual_seed(1)
    network = EnlargingNetwork(scale=2, width=8, blocks=2)
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    return network


@pytest.fixture
def folder(network, tmp_path):
    save_upscaler(network, tmp_path / "upscaler")
    return tmp_path / "upscaler"


def differences(first, second):
    return np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int))


@pytest.mark.parametrize("scale", [2, 4])
def test_an_untrained_network_enlarges_bicubically(scale, picture):
    plain = picture.resize((20 * scale, 13 * scale), Image.Resampling.BICUBIC)
    enlarged = NetworkUpscaler(EnlargingNetwork(scale=scale, width=8, blocks=2))(picture)
    assert differences(enlarged, plain).max() <= 1


@pytest.mark.parametrize("size", [(20, 13), (1, 1), (7, 33)])
@pytest.mark.parametrize("scale", [2, 4])
def test_pictures_of_any_size_grow_by_the_scale(scale, size):
    enlarged = NetworkUpscaler(EnlargingNetwork(scale=scale, width=8, blocks=1))(Image.new("RGB", size, "teal"))
    assert (enlarged.mode, enlarged.size) == ("RGB", (scale * size[0], scale * size[1]))


def test_the_same_picture_gives_the_same_bytes(network, picture):
    upscaler = NetworkUpscaler(network)
    assert upscaler(picture).tobytes() == upscaler(picture.copy()).tobytes()


def test_a_saved_upscaler_enlarges_as_before(network, folder, picture):
    opened = open_upscaler(folder)
    assert opened.scale == 2
    assert differences(opened(picture), NetworkUpscaler(network)(picture)).max() <= 1


def test_weights_are_float16_on_disk_and_float32_in_memory(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}
    assert {part.dtype for part in open_upscaler(folder).network.parameters()} == {torch.float32}


@pytest.mark.parametrize("scale", [0, 3, 8])
def test_other_scales_are_refused(scale):
    with pytest.raises(BadSetup, match=f"scale must be 2 or 4, not {scale}"):
        EnlargingNetwork(scale=scale, width=8, blocks=1)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"scale": 2, "width": 8}', '{"scale": 3, "width": 8, "blocks": 2}', '{"scale": "a"}']
)
def test_a_broken_description_is_named(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(BadSetup, match=r"upscaler/config\.json does not describe an upscaler"):
        open_upscaler(folder)


def test_a_missing_description_is_named(tmp_path):
    with pytest.raises(BadSetup, match=r"nowhere/config\.json"):
        open_upscaler(tmp_path / "nowhere")


def test_missing_weights_are_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadSetup, match=r"upscaler/model\.safetensors cannot be loaded"):
        open_upscaler(folder)


def test_truncated_weights_are_named(folder):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-10])
    with pytest.raises(BadSetup, match=r"upscaler/model\.safetensors cannot be loaded"):
        open_upscaler(folder)


def test_weights_of_another_network_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"width": 16}))
    with pytest.raises(BadSetup, match=r"(?s)upscaler/model\.safetensors cannot be loaded.*size mismatch"):
        open_upscaler(folder)


def noise(size, seed=1):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(64, 48), (61, 47), (1, 40), (17, 16), (33, 5)])
@pytest.mark.parametrize("tile", [16, 23])
@pytest.mark.parametrize("scale", [2, 4])
def test_tiles_give_the_same_picture_as_one_pass(scale, tile, size):
    torch.manual_seed(2)
    network = EnlargingNetwork(scale=scale, width=8, blocks=2)
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    whole = NetworkUpscaler(network, tile=1000)(noise(size))
    assert_same(NetworkUpscaler(network, tile=tile)(noise(size)), whole)


def test_the_shipped_upscaler_leaves_no_seams():
    upscaler = open_upscaler(ROOT / "models" / "stickers" / "upscaler")
    whole = upscaler(noise((151, 133)))
    assert upscaler.network.reach == 18 and upscaler.tile > 151
    assert_same(NetworkUpscaler(upscaler.network, tile=60)(noise((151, 133))), whole)


def assert_same(tiled, whole):
    """Expect the same bytes except for rounding: the order of sums depends on the size of a tile."""
    error = differences(tiled, whole)
    assert error.shape == differences(whole, whole).shape and error.max() <= 1 and (error > 0).mean() < 1e-4


def test_the_network_never_sees_more_than_a_tile_and_its_margins(network, monkeypatch):
    seen, forward = [], network.forward
    monkeypatch.setattr(network, "forward", lambda small: seen.append(small.shape[2:]) or forward(small))
    NetworkUpscaler(network, tile=16)(noise((100, 70)))
    assert len(seen) == 35 and max(max(shape) for shape in seen) == 16 + 2 * network.reach


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 16), (17, 40)])
def test_tiles_cover_every_pixel_once(height, width):
    counted = np.zeros((height, width), int)
    for tile in tiles(height, width, side=16, margin=6):
        counted[tile.rows, tile.columns] += 1
    assert (counted == 1).all()


def write_pipeline(folder, **description):
    """Write Stable Diffusion's x4 upscaler, of the real classes at toy size with random weights."""
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    sizes = {"block_out_channels": (8,) * 3, "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 64}
    unet = {"in_channels": 7, "num_class_embeds": 1000, "cross_attention_dim": WIDTH, "attention_head_dim": 4}
    StableDiffusionUpscalePipeline(
        vae=AutoencoderKL(**kinds, **sizes, latent_channels=4, scaling_factor=0.08333).eval(),
        text_encoder=text_encoder(CLIPTextModel),
        tokenizer=tokenizer(),
        unet=UNet2DConditionModel(**UNET, **unet).eval(),
        low_res_scheduler=DDPMScheduler(**SCHEDULE),
        scheduler=DDIMScheduler(**SCHEDULE),
    ).save_pretrained(folder)
    (folder / "model.json").write_text(json.dumps({"family": FAMILY, "steps": 2, **description}))
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("x4") / "upscaler")


def test_a_pipeline_enlarges_four_times_and_follows_prompt_and_seed(pipeline):
    upscaler, picture = open_upscaler(pipeline), noise((24, 16))
    fox = upscaler(picture, prompt="a red fox", seed=1)
    assert fox.size == (96, 64) and upscaler.scale == 4
    assert fox.tobytes() == upscaler(picture, prompt="a red fox", seed=1).tobytes()
    assert fox.tobytes() != upscaler(picture, prompt="a red fox", seed=2).tobytes()
    assert fox.tobytes() != upscaler(picture, prompt="a blue cat", seed=1).tobytes()


def test_a_pipeline_enlarges_as_it_does_when_called_directly(pipeline):
    pipe = StableDiffusionUpscalePipeline.from_pretrained(pipeline)
    pipe.set_progress_bar_config(disable=True)
    seeded = {"generator": torch.Generator().manual_seed(5), "num_inference_steps": 2, "guidance_scale": 9.0}
    expected = pipe("a red fox", image=noise((24, 16)), noise_level=20, **seeded).images[0]
    assert differences(open_upscaler(pipeline)(noise((24, 16)), prompt="a red fox", seed=5), expected).max() <= 1


@pytest.mark.parametrize("size", [(13, 17), (3, 40)])
def test_a_pipeline_takes_any_width_and_height(pipeline, size):
    assert open_upscaler(pipeline)(noise(size)).size == (4 * size[0], 4 * size[1])


def test_a_pipeline_decodes_large_pictures_in_tiles(pipeline, monkeypatch):
    pipe = StableDiffusionUpscalePipeline.from_pretrained(pipeline)
    seen, decode = [], pipe.vae.decoder.forward
    monkeypatch.setattr(pipe.vae.decoder, "forward", lambda latents: seen.append(latents.shape) or decode(latents))
    enlarged = PipelineUpscaler(pipe, {"steps": 1}, tile=16)(noise((40, 24)))
    assert enlarged.size == (160, 96) and len(seen) > 1 and max(max(shape[2:]) for shape in seen) == 16


def test_the_description_of_a_model_chooses_its_upscaler(pipeline, folder, tmp_path):
    cpu = Device("cpu", torch.float32)
    assert open_model_upscaler({}, tmp_path / "no-such", cpu) is None
    assert open_model_upscaler({}, folder.parent, cpu).scale == 2
    assert open_model_upscaler({"upscaler": "upscaler"}, pipeline.parent, cpu).scale == 4
    description = {"family": FAMILY, "source": str(pipeline), "hub_revision": "abc", "steps": 3}
    assert open_model_upscaler({"upscaler": description}, tmp_path, cpu).settings["num_inference_steps"] == 3


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"family": "stable-diffusion"}, f"the family of an upscaler must be {FAMILY}"),
        ({"family": FAMILY, "source": "a/b"}, "needs its commit as hub_revision"),
        ({"family": FAMILY}, "upscaler cannot be loaded"),
        (7, "must name a folder or describe a pipeline"),
    ],
)
def test_a_pipeline_that_cannot_be_loaded_is_named(tmp_path, description, message):
    with pytest.raises(BadSetup, match=message):
        open_model_upscaler({"upscaler": description}, tmp_path, Device("cpu", torch.float32))


def test_a_pipeline_without_safetensors_is_refused(tmp_path):
    folder = write_pipeline(tmp_path / "upscaler")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(BadSetup, match="cannot be loaded"):
        open_upscaler(folder)
