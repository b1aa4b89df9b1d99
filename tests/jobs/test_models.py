"""Models are folders; a request that a model cannot paint is refused with the remedy."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.models import Catalogue
from memo import BadRecipe, BadSetup
from memo.near import DEFAULT_STRENGTHS
from tests.real import ROOT
from tests.tiny_model import write_tiny_model


@pytest.fixture
def folder(tmp_path, tiny_models):
    shutil.copytree(tiny_models / "stickers", tmp_path / "models" / "stickers")
    return tmp_path / "models"


@pytest.fixture
def catalogue(folder):
    return Catalogue(folder)


def test_the_models_defaults_fill_the_recipe(catalogue):
    recipe = catalogue.recipe({"prompt": "fox"})
    assert (recipe.model, recipe.steps, recipe.guidance_scale, recipe.width) == ("stickers", 8, 3.0, 256)
    assert recipe.revision == catalogue.model("stickers").revision and len(recipe.revision) == 16
    assert catalogue.recipe({"prompt": "fox", "steps": 3}).steps == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "sdxl"),
        ("model", 7),
        ("width", 512),
        ("height", 128),
        ("sampler", "plms"),
        ("schedule", "linear"),
        ("adapter", "lora"),
        ("prompt", "a 🦊 in the snow"),
        ("prompt", "שועל אדום בשלג"),
        ("prompt", "ثعلب"),
        ("prompt", "狐"),
        ("negative_prompt", "лиса"),
    ],
)
def test_a_request_that_the_model_cannot_paint_is_refused(catalogue, field, value):
    with pytest.raises(BadRecipe) as caught:
        catalogue.recipe({"prompt": "fox", field: value})
    assert caught.value.field == field and caught.value.remedy


def test_a_negative_prompt_that_would_have_no_effect_is_refused(catalogue):
    body = {"prompt": "fox", "negative_prompt": "snow"}
    assert catalogue.recipe({**body, "guidance_scale": 1.1}).negative_prompt == "snow"
    with pytest.raises(BadRecipe, match="guidance_scale above 1") as caught:
        catalogue.recipe({**body, "guidance_scale": 1})
    assert caught.value.field == "negative_prompt"


def test_a_negative_prompt_is_refused_by_a_model_that_supports_none(folder):
    write_tiny_model(folder, name="deaf")
    file = folder / "deaf" / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "negative_prompts": False}))
    with pytest.raises(BadRecipe, match="deaf supports none: leave it out") as caught:
        Catalogue(folder).recipe({"model": "deaf", "prompt": "fox", "negative_prompt": "snow", "guidance_scale": 5})
    assert caught.value.field == "negative_prompt"
    file.write_text(json.dumps({**json.loads(file.read_text()), "negative_prompts": "no"}))
    with pytest.raises(BadSetup, match="negative_prompts must be true or false, not 'no'"):
        Catalogue(folder).check()


@pytest.mark.parametrize(
    ("pipeline", "image_to_image"), [("FluxPipeline", True), ("DDPMPipeline", False), (None, False)]
)
def test_the_pipeline_class_says_whether_a_model_supports_image_to_image(folder, pipeline, image_to_image):
    write_tiny_model(folder, name="hub")
    file = folder / "hub" / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "family": "pipeline", "pipeline": pipeline}))
    assert Catalogue(folder).model("hub").image_to_image == image_to_image


@pytest.mark.parametrize("strengths", [[[2.0, 0.8], [2.5, 0.6]], [[2.0, 0.4]], [[3.5, 0.8]], [[2.0]], ["2"], 2])
def test_near_strengths_that_make_no_sense_are_refused(folder, strengths):
    with pytest.raises(BadSetup, match="model.json does not describe a model"):
        model_with_near_strengths(folder, strengths)


def test_a_model_names_its_own_near_strengths(folder):
    assert model_with_near_strengths(folder, [[2.5, 0.6], [2, 0.75]]).near_strengths == ((2.5, 0.6), (2.0, 0.75))
    assert not model_with_near_strengths(folder, []).near_starts


def model_with_near_strengths(folder, strengths):
    write_tiny_model(folder, name="near")
    file = folder / "near" / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "near": strengths}))
    return Catalogue(folder).model("near")


def test_a_model_that_paints_over_drawings_starts_from_noise(folder):
    """That is the shipped one. Others start from similar pictures if they can start from pictures at all."""
    assert Catalogue(folder).model("stickers").near_strengths == DEFAULT_STRENGTHS
    shipped = Catalogue(ROOT / "models").model("stickers")
    assert shipped.image_to_image and not shipped.near_starts


def test_karras_needs_a_sampler_with_sigmas(catalogue):
    assert catalogue.recipe({"prompt": "fox", "schedule": "karras"}).schedule == "karras"
    with pytest.raises(BadRecipe, match="ddim"):
        catalogue.recipe({"prompt": "fox", "schedule": "karras", "sampler": "ddim"})


def test_accents_and_punctuation_are_accepted(catalogue):
    assert catalogue.recipe({"prompt": "a café, naïve & “quoted” — 100 %"}).prompt


def test_a_new_model_needs_no_restart(catalogue, folder):
    assert list(catalogue.models()) == ["stickers"]
    write_tiny_model(folder, name="another", seed=1)
    write_tiny_model(folder, name=".half-written", seed=1)
    assert [model["name"] for model in catalogue.to_dicts()] == ["stickers", "another"]


def test_new_weights_are_a_new_revision(catalogue, folder):
    before = catalogue.model("stickers").revision
    weights = next((folder / "stickers" / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    os.utime(weights, ns=(1, 1))
    assert catalogue.model("stickers").revision != before


def test_an_incomplete_model_file_is_named(catalogue, folder):
    (folder / "stickers" / "model.json").write_text(json.dumps({"name": "stickers"}))
    with pytest.raises(BadSetup, match="model.json"):
        catalogue.models()


def test_a_model_with_a_broken_file_is_left_out_and_the_others_stay(catalogue, folder, caplog):
    write_tiny_model(folder, name="another", seed=1)
    (folder / "another" / "model.json").write_text("{")
    for _ in range(2):
        assert list(catalogue.models()) == ["stickers"]
    assert catalogue.model("stickers") and caplog.text.count("another/model.json") == 1
    for strict in (catalogue.check, lambda: catalogue.model("another")):
        with pytest.raises(BadSetup, match=r"another/model\.json does not describe a model"):
            strict()


def test_a_model_that_is_moved_while_the_catalogue_reads_it_is_left_out(catalogue, folder, monkeypatch):
    write_tiny_model(folder, name="another", seed=1)
    real = Path.stat

    def stat(path, **options):
        if path.suffix == ".safetensors" and "another" in path.parts:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert list(catalogue.models()) == ["stickers"]


def test_a_folder_without_models_is_refused(tmp_path):
    with pytest.raises(BadSetup, match="no model"):
        Catalogue(tmp_path).models()


def test_lcm_is_offered_only_by_models_that_list_it_and_only_for_few_steps(catalogue, folder):
    assert "lcm" not in catalogue.model("stickers").samplers
    file = folder / "stickers" / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"samplers": ["lcm"]}))
    body = {"prompt": "fox", "sampler": "lcm", "width": 64, "height": 64}
    assert catalogue.recipe(body | {"steps": 50}).steps == 50
    with pytest.raises(BadRecipe, match="at most 50"):
        catalogue.recipe(body | {"steps": 51})
    with pytest.raises(BadRecipe, match="only has the schedule native"):
        catalogue.recipe(body | {"steps": 4, "schedule": "karras"})


@pytest.mark.parametrize(("former", "value"), [("span", [256, 1024, 8]), ("negatives", False), ("least_gib", 4)])
def test_a_field_under_its_former_name_is_refused(folder, former, value):
    write_tiny_model(folder, name="older")
    file = folder / "older" / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), former: value}))
    with pytest.raises(BadSetup, match=f"the field {former} is now called"):
        Catalogue(folder).check()


UNUSABLE = {
    "style@v2": "must not contain @, colons",
    "a:b": "must not contain @, colons",
    " x ": "or blanks at its start or end",
    "a\u200bb": "invisible characters",
    "n" * 201: "at most 170 characters, not 201",
    "._ink": "begins with a dot",
}


@pytest.fixture
def adapters(folder):
    """The folder of adapters of a model that can use them."""
    description = json.loads((folder / "stickers" / "model.json").read_text())
    (folder / "stickers" / "model.json").write_text(json.dumps(description | {"family": "stable-diffusion"}))
    (folder / "stickers" / "adapters").mkdir()
    (folder / "stickers" / "adapters" / "ink.safetensors").write_bytes(b"weights")
    return folder / "stickers" / "adapters"


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_adapter_whose_name_cannot_be_written_in_a_recipe_is_not_offered_and_the_log_says_why(
    catalogue, adapters, name, caplog
):
    (adapters / f"{name}.safetensors").write_bytes(b"weights")
    for _ in range(2):
        assert catalogue.model("stickers").adapters == ("ink",)
    [message] = [record.getMessage() for record in caplog.records]
    assert "is not offered: " in message and UNUSABLE[name] in message
    with pytest.raises(BadRecipe, match="adapter: "):
        catalogue.recipe({"prompt": "fox", "adapter": name})


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("link", "the link leads nowhere"), ("folder", "it is not a file"), ("fifo", "it is not a file")],
)
def test_a_broken_link_or_a_folder_is_not_offered_as_an_adapter(catalogue, adapters, kind, reason, caplog):
    make = {"link": lambda path: path.symlink_to(adapters / "gone"), "folder": Path.mkdir, "fifo": os.mkfifo}[kind]
    make(adapters / "odd.safetensors")
    (adapters / "linked.safetensors").symlink_to(adapters / "ink.safetensors")
    assert catalogue.model("stickers").adapters == ("ink", "linked")
    assert f"odd.safetensors is not offered: {reason}" in caplog.text
    with pytest.raises(BadRecipe, match="stickers offers ink, linked"):
        catalogue.recipe({"prompt": "fox", "adapter": "odd"})


def test_an_adapter_that_vanishes_while_it_is_requested_is_refused(catalogue, adapters, monkeypatch):
    monkeypatch.setattr(Catalogue, "with_adapters", lambda self, model: replace(model, adapters=("gone",)))
    with pytest.raises(BadRecipe, match="its file cannot be read: No such file or directory"):
        catalogue.recipe({"prompt": "fox", "adapter": "gone"})


def test_the_longest_name_of_an_adapter_fits_into_a_recipe(catalogue, adapters):
    name = "n" * 170
    (adapters / f"{name}.safetensors").write_bytes(b"weights")
    recipe = catalogue.recipe({"prompt": "fox", "adapter": f"{name}:-3.9999"})
    assert recipe.adapter.startswith(f"{name}:-3.9999@")
