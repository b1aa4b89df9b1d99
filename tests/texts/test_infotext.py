"""What AUTOMATIC1111's clients read from a picture: the settings in its text, exactly as they were."""

import base64

import pytest

from jobs.models import Catalogue
from memo import Recipe
from tests.real import painted
from web.a1111.generation_request import read_request
from web.a1111.infotext import read_settings

PROMPTS = [
    "a red fox in the snow",
    "a sign that says Negative prompt: no foxes, Steps: 3",
    "Negative prompt: a sign with these words",
    "Steps: 3, Sampler: Euler, Seed: 5, Size: 64x64",
    'a "quoted" fox, \\escaped: [b:c:0.5]',
]


@pytest.fixture
def read_back(client, tiny_models):
    """Return the recipe that a client asks for with what `png-info` reads from a picture."""

    def read(png: bytes) -> tuple[dict[str, str], Recipe]:
        answer = client.post("/sdapi/v1/png-info", json={"image": base64.b64encode(png).decode()})
        settings = answer.json["parameters"]
        body = {
            "prompt": settings["Prompt"],
            "negative_prompt": settings["Negative prompt"],
            "steps": settings["Steps"],
            "sampler_name": settings["Sampler"],
            "scheduler": settings["Schedule type"],
            "cfg_scale": float(settings["CFG scale"]),
            "seed": settings["Seed"],
            "width": settings["Size-1"],
            "height": settings["Size-2"],
            "override_settings": {"sd_model_checkpoint": settings["Model"]},
        }
        catalogue = Catalogue(tiny_models)
        request = read_request(body, catalogue.models(), preferred_model="stickers", img2img=False)
        native = {name: value for name, value in request.native.items() if value is not None}
        return settings, catalogue.recipe(native)

    return read


@pytest.mark.parametrize("negative", ["", "blurry", "Negative prompt: Negative prompt:"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_picture_read_back_asks_for_the_same_recipe(read_back, tiny_models, prompt, negative):
    wanted = Catalogue(tiny_models).recipe(
        {"prompt": prompt, "negative_prompt": negative, "width": 64, "height": 64, "guidance_scale": 12.345678}
    )
    settings, recipe = read_back(painted(wanted, seed=7)[1])
    assert (settings["Prompt"], settings["Negative prompt"]) == (prompt, negative)
    assert recipe.wish == wanted and recipe.seed == 7


@pytest.mark.parametrize("schedule", ["native", "karras"])
@pytest.mark.parametrize("sampler", ["dpm++2m", "euler-a"])
def test_a_picture_read_back_has_the_schedule_of_its_recipe(read_back, tiny_models, sampler, schedule):
    values = {"prompt": "a fox", "width": 64, "height": 64, "sampler": sampler, "schedule": schedule}
    wanted = Catalogue(tiny_models).recipe(values)
    assert read_back(painted(wanted, seed=7)[1])[1].wish == wanted


def test_the_marker_of_the_negative_prompt_counts_at_the_start_of_a_line_only():
    lines = "a sign that says Negative prompt: no\nof wood\n Negative prompt: blurry,\nNegative prompts: none"
    settings = read_settings(f"{lines}\nSteps: 20, Sampler: Euler a, Seed: 5")
    assert settings["Prompt"] == "a sign that says Negative prompt: no\nof wood"
    assert settings["Negative prompt"] == "blurry,\nNegative prompts: none"
    assert read_settings("a fox, Negative prompt: a cat") == {
        "Prompt": "a fox, Negative prompt: a cat",
        "Negative prompt": "",
    }


def test_a_text_that_begins_with_the_marker_has_no_prompt():
    settings = read_settings("Negative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: 5")
    assert (settings["Prompt"], settings["Negative prompt"], settings["Seed"]) == ("", "blurry", "5")


def test_settings_are_read_as_automatic1111_reads_them():
    line = (
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 5, Size: 512x768, Hash: ab12,"
        ' Model: my model, Loras: "a: 1, b: 2", Hires-fix/x: 2, Note: "a \\"b\\", c", Empty: , Open: "no, V2: v1'
    )
    settings = read_settings(f"a fox\n{line}")
    assert settings | {"Size-1": "512", "Size-2": "768", "Loras": "a: 1, b: 2"} == settings
    assert (settings["Note"], settings["Empty"], settings["Hires-fix/x"]) == ('a "b", c', "", "2")
    assert (settings["Open"], settings["V2"], settings["Schedule type"]) == ('"no', "v1", "Karras")
