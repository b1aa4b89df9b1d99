"""LoRA files on toy Stable Diffusion models of the real classes, beside diffusers' own way with them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from memo import BadRecipe, BadSetup
from tests.stock_models import write_sdxl, write_stable_diffusion
from worker.catalogue import Catalogue
from worker.painter import Means, open_painter
from worker.samplers import make_scheduler

MEANS = Means(slots=3, device="cpu", dtype="float32")
PROJECTIONS = {"unet": ["to_q", "to_v"], "text_encoder": ["q_proj", "v_proj"]}


def write_lora(folder, name, seed, parts=("unet", "text_encoder")):
    """Random weights, saved as diffusers saves them."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    layers = {}
    for part in parts:
        network = getattr(pipe, part)
        torch.manual_seed(seed)
        network.add_adapter(LoraConfig(r=2, target_modules=PROJECTIONS[part], init_lora_weights=False))
        layers[f"{part}_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
    pipe.save_lora_weights(folder / "adapters", weight_name=f"{name}.safetensors", **layers)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    for write in (write_stable_diffusion, write_sdxl):
        model = write(folder)
        write_lora(model, "ink", 1)
        write_lora(model, "chalk", 2, parts=("unet",))
    save_file({"nothing.weight": torch.zeros(1)}, folder / "sd" / "adapters" / "broken.safetensors")
    return Catalogue(folder)


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def painter(catalogue, name):
    return open_painter(catalogue.model(name), MEANS)


def paint(painter, recipe):
    return np.asarray(painter(recipe, lambda progress: None), np.float32)


def wanted(catalogue, name, **more):
    return catalogue.recipe({"model": name, "prompt": "a red fox", "seed": 3, **more})


def official(catalogue, recipe, adapter, weight):
    folder = catalogue.model(recipe.model).folder
    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.load_lora_weights(folder / "adapters", weight_name=f"{adapter}.safetensors", adapter_name=adapter)
    pipe.set_adapters([adapter], [weight])
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = make_scheduler(dict(pipe.scheduler.config), recipe.sampler, recipe.schedule)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(recipe.seed))
    sized = {"height": recipe.height, "width": recipe.width, "num_inference_steps": recipe.steps}
    said = {"prompt": recipe.prompt, "guidance_scale": recipe.guidance_scale, "latents": noise}
    return pipe(**said, **sized, output_type="np").images[0] * 255


@pytest.mark.parametrize(("adapter", "weight"), [("ink", 1.0), ("ink", 0.4), ("chalk", 1.0)])
def test_an_adapter_paints_as_in_diffusers_own_pipeline(one_thread, catalogue, painter, name, adapter, weight):
    plain = paint(painter, wanted(catalogue, name))
    recipe = wanted(catalogue, name, adapter=f"{adapter}:{weight}")
    found = paint(painter, recipe)
    assert np.abs(found - official(catalogue, recipe, adapter, weight)).max() <= 1
    assert np.abs(found - plain).max() > 3


def test_without_an_adapter_it_is_as_if_none_had_been_worn(one_thread, catalogue, painter, name):
    never = paint(open_painter(catalogue.model(name), MEANS), wanted(catalogue, name))
    paint(painter, wanted(catalogue, name, adapter="ink"))
    assert (paint(painter, wanted(catalogue, name)) == never).all()


def test_paintings_with_several_adapters_go_on_together(one_thread, catalogue, painter, name):
    recipes = [
        wanted(catalogue, name, steps=6, **({"adapter": one} if one else {})) for one in ("ink", "", "chalk:2")
    ]
    alone = [paint(painter, recipe) for recipe in recipes]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda recipe: paint(painter, recipe), recipes))
    for one, other in zip(alone, found, strict=True):
        assert np.abs(one - other).max() <= 1


def test_a_file_that_is_no_adapter_of_the_model_is_named(catalogue):
    painter = open_painter(catalogue.model("sd"), MEANS)
    with pytest.raises(BadSetup, match="broken.safetensors cannot be used with this model"):
        paint(painter, wanted(catalogue, "sd", adapter="broken"))
    assert paint(painter, wanted(catalogue, "sd")).shape == (64, 64, 3)  # the loop goes on


def test_the_recipe_names_the_weight_and_the_file(catalogue):
    recipe = wanted(catalogue, "sd", adapter="ink")
    assert recipe.adapter.startswith("ink:1@") and len(recipe.adapter) == len("ink:1@") + 16
    assert wanted(catalogue, "sd", adapter=recipe.adapter) == recipe
    assert wanted(catalogue, "sd", adapter="ink:1.0").key == recipe.key


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ("oil", "sd offers broken, chalk, ink"),
        ("ink:heavy", "write NAME or NAME:WEIGHT"),
        ("ink:9", "the weight from -4 to 4"),
        ("ink:1@0123456789abcdef", "that file was changed since"),
    ],
)
def test_what_is_no_adapter_is_refused_with_the_fix(catalogue, adapter, said):
    with pytest.raises(BadRecipe, match=said):
        wanted(catalogue, "sd", adapter=adapter)


def test_adapters_are_no_part_of_the_models_revision(catalogue):
    before = catalogue.model("sd")
    write_lora(before.folder, "pastel", 5, parts=("unet",))
    after = catalogue.model("sd")
    assert after.revision == before.revision and "pastel" in after.adapters and "pastel" not in before.adapters
    assert catalogue.describe()[0]["adapters"] == after.adapters
