"""LoRA files on toy models of the real classes, in the step loop and in pipelines, compared with diffusers itself."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from jobs.models import Catalogue
from memo import BadRecipe, BadSetup
from tests.stock_models import write_ddpm, write_flux, write_sd3, write_sdxl, write_stable_diffusion
from worker.engine.samplers import make_scheduler
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions

OPTIONS = PainterOptions(slots=3, device="cpu", dtype="float32")
STEPPED, PIPELINES = ["sd", "sdxl"], ["sd3", "flux"]
PROJECTIONS = {
    "unet": ["to_q", "to_v"],
    "transformer": ["to_q", "to_v", "proj_out"],
    "text_encoder": ["q_proj", "v_proj"],
}


def open_pipeline(folder):
    """Open diffusers' own pipeline over the same folder."""
    pipe = DiffusionPipeline.from_pretrained(folder, **missing_parts(folder))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def missing_parts(folder):
    return dict.fromkeys(json.loads((folder / "model.json").read_text())["without"])


def write_lora(folder, name, seed, parts=("network", "text_encoder")):
    """Write an adapter with random weights, in diffusers' own format."""
    pipe = open_pipeline(folder)
    network = "unet" if hasattr(pipe, "unet") else "transformer"
    layers = {}
    for part in [network if part == "network" else part for part in parts]:
        network = getattr(pipe, part)
        torch.manual_seed(seed)
        network.add_adapter(LoraConfig(r=2, target_modules=PROJECTIONS[part], init_lora_weights=False))
        weights = get_peft_model_state_dict(network)
        layers[f"{part}_lora_layers"] = weights if part == "transformer" else convert_state_dict_to_diffusers(weights)
    pipe.save_lora_weights(folder / "adapters", weight_name=f"{name}.safetensors", **layers)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    for write in (write_stable_diffusion, write_sdxl, write_sd3, write_flux):
        model = write(folder)
        write_lora(model, "ink", 1)
        write_lora(model, "chalk", 2, parts=("network",))
        save_file({"nothing.weight": torch.zeros(1)}, model / "adapters" / "broken.safetensors")
    write_ddpm(folder)
    return Catalogue(folder)


@pytest.fixture(scope="module", params=STEPPED + PIPELINES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def painter(catalogue, name):
    return open_painter(catalogue.model(name), OPTIONS)


def paint(painter, recipe):
    return np.asarray(painter(recipe, lambda progress: None), np.float32)


def make_recipe(catalogue, name, **more):
    return catalogue.recipe({"model": name, "prompt": "a red fox", "seed": 3, **more})


def paint_by_diffusers(catalogue, recipe, adapter, weight):
    folder = catalogue.model(recipe.model).folder
    pipe = open_pipeline(folder)
    pipe.load_lora_weights(folder / "adapters", weight_name=f"{adapter}.safetensors", adapter_name=adapter)
    pipe.set_adapters([adapter], [weight])
    if recipe.model in STEPPED:
        pipe.scheduler = make_scheduler(dict(pipe.scheduler.config), recipe.sampler, recipe.schedule)
    sized = {"height": recipe.height, "width": recipe.width, "num_inference_steps": recipe.steps}
    guided = {"prompt": recipe.prompt, "guidance_scale": recipe.guidance_scale}
    noise = torch.Generator().manual_seed(recipe.seed)
    return pipe(**guided, **sized, generator=noise, output_type="np").images[0] * 255


@pytest.mark.parametrize(("adapter", "weight"), [("ink", 1.0), ("ink", 0.4), ("chalk", 1.0)])
def test_an_adapter_paints_the_picture_of_diffusers_own_pipeline(
    one_thread, catalogue, painter, name, adapter, weight
):
    plain = paint(painter, make_recipe(catalogue, name))
    recipe = make_recipe(catalogue, name, adapter=f"{adapter}:{weight}")
    picture = paint(painter, recipe)
    assert np.abs(picture - paint_by_diffusers(catalogue, recipe, adapter, weight)).max() <= 1
    assert np.abs(picture - plain).max() > 3


def test_without_an_adapter_earlier_adapters_leave_no_trace(one_thread, catalogue, painter, name):
    untouched = paint(open_painter(catalogue.model(name), OPTIONS), make_recipe(catalogue, name))
    paint(painter, make_recipe(catalogue, name, adapter="ink"))
    assert (paint(painter, make_recipe(catalogue, name)) == untouched).all()


def test_paintings_with_different_adapters_run_at_once(one_thread, catalogue, painter, name):
    recipes = [
        make_recipe(catalogue, name, steps=6, **({"adapter": adapter} if adapter else {}))
        for adapter in ("ink", "", "chalk:2")
    ]
    alone = [paint(painter, recipe) for recipe in recipes]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda recipe: paint(painter, recipe), recipes))
    for single, concurrent in zip(alone, together, strict=True):
        assert np.abs(single - concurrent).max() <= 1


def test_a_file_that_is_no_adapter_for_the_model_is_named(catalogue, name):
    painter = open_painter(catalogue.model(name), OPTIONS)
    with pytest.raises(BadSetup, match="broken.safetensors cannot be used with this model"):
        paint(painter, make_recipe(catalogue, name, adapter="broken"))
    assert paint(painter, make_recipe(catalogue, name)).shape == (64, 64, 3)  # the painter still paints


@pytest.mark.parametrize("name", PIPELINES)
def test_the_weight_scales_the_effect_of_an_adapter(one_thread, catalogue, name):
    painter = open_painter(catalogue.model(name), OPTIONS)
    pictures = [paint(painter, make_recipe(catalogue, name, adapter=f"ink:{weight}")) for weight in (0, 0.5, 1)]
    plain = paint(painter, make_recipe(catalogue, name))
    assert (pictures[0] == plain).all()
    assert 0 < np.abs(pictures[1] - plain).mean() < np.abs(pictures[2] - plain).mean()


BLOCK = "transformer.transformer_blocks"
UNFIT = {  # files that diffusers would load in part, or that would change the network itself: (layer, width, message)
    "for another network": ("unet.down_blocks.0.attn.to_q", 32, "has a place for 1 of its 2 layers"),
    "deeper": (f"{BLOCK}.9.attn.to_q", 32, "has a place for 1 of its 2 layers"),
    "a third encoder's": ("text_encoder_3.block.0.q", 32, "has a place for 1 of its 2 layers"),
    "narrower": (f"{BLOCK}.0.attn.to_v", 16, "is for a layer of size 16, not 32"),
    "wider, as control models are": (f"{BLOCK}.0.attn.to_v", 64, "is for a layer of size 64, not 32"),
    "norms, as control models have": (f"{BLOCK}.0.attn.norm_q.weight", 16, "which is not a low-rank layer"),
}


def write_unfit(path, layer, width):
    """Write an adapter with one layer that fits and one that does not."""
    weights = {layer: torch.ones(width)} if layer.endswith(".weight") else low_rank_weights(layer, width)
    save_file(low_rank_weights(f"{BLOCK}.0.attn.to_q", 32) | weights, path)


def low_rank_weights(layer, width):
    return {f"{layer}.lora_A.weight": torch.ones(2, width), f"{layer}.lora_B.weight": torch.ones(width, 2)}


@pytest.mark.parametrize("fault", UNFIT)
@pytest.mark.parametrize("previous", ["", "ink"])
@pytest.mark.parametrize("name", PIPELINES)
def test_an_unfit_file_is_named_and_leaves_no_trace(one_thread, catalogue, name, previous, fault):
    painter = open_painter(catalogue.model(name), OPTIONS)
    recipes = [make_recipe(catalogue, name, adapter=adapter) for adapter in ("", previous)]
    plain, before = (paint(painter, recipe) for recipe in recipes)
    layer, width, message = UNFIT[fault]
    write_unfit(catalogue.model(name).folder / "adapters" / "unfit.safetensors", layer, width)
    for _ in range(2):
        with pytest.raises(BadSetup, match=f"unfit.safetensors cannot be used with this model: .*{message}"):
            paint(painter, make_recipe(catalogue, name, adapter="unfit"))
        assert (paint(painter, make_recipe(catalogue, name, adapter=previous)) == before).all()
    assert (paint(painter, make_recipe(catalogue, name)) == plain).all()


QUERY = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT_OUTPUT = "text_model_encoder_layers_0_self_attn_out_proj"
PARTLY_FITTING = {  # layers in kohya's names, and the number of them that the model has
    "a renamed layer": (
        [f"unet_{QUERY}", "unet_down_blocks_9_attentions_0_transformer_blocks_0_attn1_to_q"],
        "1 of its 2",
    ),
    "a renamed layer of the text encoder": (
        [f"te_{TEXT_OUTPUT}", f"te_{TEXT_OUTPUT.replace('0', '77')}"],
        "1 of its 2",
    ),
    "a second text encoder": ([f"te2_{TEXT_OUTPUT}"], "0 of its 1"),
    "a second text encoder besides": ([f"unet_{QUERY}", f"te_{TEXT_OUTPUT}", f"te2_{TEXT_OUTPUT}"], "2 of its 3"),
}


def kohya_weights(names):
    """Low-rank weights under the names that kohya's trainer gives to layers."""
    weights = {}
    for name in names:
        weights[f"lora_{name}.lora_down.weight"] = torch.ones(2, 32)
        weights[f"lora_{name}.lora_up.weight"] = torch.ones(32, 2)
        weights[f"lora_{name}.alpha"] = torch.tensor(1.0)
    return weights


@pytest.mark.parametrize("fault", PARTLY_FITTING)
@pytest.mark.parametrize("name", ["sd"])
def test_a_file_that_fits_partly_is_refused_with_the_numbers_of_layers(one_thread, catalogue, name, fault):
    names, numbers = PARTLY_FITTING[fault]
    painter = open_painter(catalogue.model(name), OPTIONS)
    plain = paint(painter, make_recipe(catalogue, name))
    save_file(kohya_weights(names), catalogue.model(name).folder / "adapters" / "partly.safetensors")
    for _ in range(2):
        with pytest.raises(BadSetup, match=f"partly.safetensors .*: this model has a place for {numbers} layers"):
            paint(painter, make_recipe(catalogue, name, adapter="partly"))
        assert (paint(painter, make_recipe(catalogue, name)) == plain).all()


@pytest.mark.parametrize("name", ["sd"])
def test_a_file_for_a_network_of_another_width_leaves_no_trace(one_thread, catalogue, name):
    painter = open_painter(catalogue.model(name), OPTIONS)
    plain = paint(painter, make_recipe(catalogue, name))
    weights = {
        key: value.repeat(2, 2)[:, :64]
        for key, value in kohya_weights([f"unet_{QUERY}"]).items()
        if "lora_" in key[5:]
    }
    save_file(weights, catalogue.model(name).folder / "adapters" / "wide.safetensors")
    for _ in range(2):
        with pytest.raises(BadSetup, match="wide.safetensors cannot be used with this model"):
            paint(painter, make_recipe(catalogue, name, adapter="wide"))
        assert (paint(painter, make_recipe(catalogue, name)) == plain).all()


@pytest.mark.parametrize(
    ("name", "key"), [("sd", f"lora_unet_{QUERY}.dora_scale"), ("sd3", f"{BLOCK}.0.attn.to_q.lora_magnitude_vector")]
)
def test_a_dora_is_refused_by_name(catalogue, name, key):
    layer = kohya_weights([f"unet_{QUERY}"]) if name == "sd" else low_rank_weights(f"{BLOCK}.0.attn.to_q", 32)
    save_file(layer | {key: torch.ones(32, 1)}, catalogue.model(name).folder / "adapters" / "dora.safetensors")
    with pytest.raises(BadSetup, match="dora.safetensors .*: it is a DoRA, which cannot be used"):
        paint(open_painter(catalogue.model(name), OPTIONS), make_recipe(catalogue, name, adapter="dora"))


def test_the_recipe_names_the_weight_and_the_file(catalogue):
    recipe = make_recipe(catalogue, "sd", adapter="ink")
    assert recipe.adapter.startswith("ink:1@") and len(recipe.adapter) == len("ink:1@") + 16
    assert make_recipe(catalogue, "sd", adapter=recipe.adapter) == recipe
    assert make_recipe(catalogue, "sd", adapter="ink:1.0").key == recipe.key


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("oil", "sd offers broken, chalk, .*ink"),
        ("ink:heavy", "write NAME or NAME:WEIGHT"),
        ("ink:9", "the weight from -4 to 4"),
        ("ink:1@0123456789abcdef", "its file has changed since"),
    ],
)
def test_an_unknown_adapter_is_refused_with_the_fix(catalogue, adapter, message):
    with pytest.raises(BadRecipe, match=message):
        make_recipe(catalogue, "sd", adapter=adapter)


def test_a_changed_file_counts_as_another_adapter(one_thread, catalogue, name):
    folder, painter = catalogue.model(name).folder, open_painter(catalogue.model(name), OPTIONS)
    write_lora(folder, "wash", 6)
    old = make_recipe(catalogue, name, adapter="wash")
    before = paint(painter, old)
    write_lora(folder, "wash", 7)
    after = paint(painter, make_recipe(catalogue, name, adapter="wash"))
    assert np.abs(after - before).max() > 3 and (paint(painter, old) == before).all()
    with pytest.raises(BadSetup, match="wash.safetensors .* has changed since the picture was requested"):
        paint(open_painter(catalogue.model(name), OPTIONS), old)


def test_a_pipeline_without_a_prompt_offers_no_adapters(catalogue):
    folder = catalogue.model("ddpm").folder
    (folder / "adapters").mkdir()
    shutil.copy(catalogue.model("sd").folder / "adapters" / "ink.safetensors", folder / "adapters")
    with pytest.raises(BadRecipe, match="ddpm has no adapters: leave it out"):
        make_recipe(catalogue, "ddpm", adapter="ink")
    recipe = replace(make_recipe(catalogue, "ddpm"), adapter="ink:1@0123456789abcdef")
    with pytest.raises(BadRecipe, match="ddpm cannot use adapters: leave it out"):
        paint(open_painter(catalogue.model("ddpm"), OPTIONS), recipe)


def test_a_new_adapter_does_not_change_the_models_revision(catalogue):
    before = catalogue.model("sd")
    write_lora(before.folder, "pastel", 5, parts=("network",))
    after = catalogue.model("sd")
    assert after.revision == before.revision and "pastel" in after.adapters and "pastel" not in before.adapters
    described = {model["name"]: model for model in catalogue.to_dicts()}
    assert described["sd"]["adapters"] == after.adapters
