import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from memo.errors import BadSetup
from worker.upscaler import EnlargingNetwork, Upscaler, open_upscaler, save_upscaler

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def picture():
    """Noise, 20 px wide and 13 high, with room above and below: Pillow clips between across and down."""
    return Image.fromarray(np.random.default_rng(1).integers(64, 192, (13, 20, 3), dtype=np.uint8))


@pytest.fixture
def network():
    """A network that does something, as one that was trained."""
    torch.manual_seed(1)
    network = EnlargingNetwork(scale=2, width=8, blocks=2)
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    return network


@pytest.fixture
def folder(network, tmp_path):
    save_upscaler(network, tmp_path / "upscaler")
    return tmp_path / "upscaler"


def differences(one, other):
    return np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int))


@pytest.mark.parametrize("scale", [2, 4])
def test_an_untrained_network_is_a_plain_enlargement(scale, picture):
    plain = picture.resize((20 * scale, 13 * scale), Image.Resampling.BICUBIC)
    enlarged = Upscaler(EnlargingNetwork(scale=scale, width=8, blocks=2))(picture)
    assert differences(enlarged, plain).max() <= 1


@pytest.mark.parametrize("size", [(20, 13), (1, 1), (7, 33)])
@pytest.mark.parametrize("scale", [2, 4])
def test_width_and_height_grow_by_the_scale_whatever_they_are(scale, size):
    enlarged = Upscaler(EnlargingNetwork(scale=scale, width=8, blocks=1))(Image.new("RGB", size, "teal"))
    assert (enlarged.mode, enlarged.size) == ("RGB", (scale * size[0], scale * size[1]))


def test_the_same_picture_is_enlarged_the_same(network, picture):
    upscaler = Upscaler(network)
    assert upscaler(picture).tobytes() == upscaler(picture.copy()).tobytes()


def test_a_kept_upscaler_enlarges_as_before(network, folder, picture):
    opened = open_upscaler(folder)
    assert opened.scale == 2
    assert differences(opened(picture), Upscaler(network)(picture)).max() <= 1


def test_weights_are_halved_on_disk_and_whole_in_memory(folder):
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


def test_torn_weights_are_named(folder):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-10])
    with pytest.raises(BadSetup, match=r"upscaler/model\.safetensors cannot be loaded"):
        open_upscaler(folder)


def test_weights_of_another_network_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"width": 16}))
    with pytest.raises(BadSetup, match=r"(?s)upscaler/model\.safetensors cannot be loaded.*size mismatch"):
        open_upscaler(folder)
