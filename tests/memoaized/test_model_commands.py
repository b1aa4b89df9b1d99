"""`memoaized model` with a stub of the hub: models are pinned, checked, accepted by the catalogue, and can paint."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from diffusers import (
    DDPMPipeline,
    DDPMScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    UNet2DConditionModel,
    UNet2DModel,
)
from huggingface_hub import HfApi
from transformers import CLIPTextModel

from jobs.models import PIPELINE, REMOTE_FAMILIES, STEP_LOOP_FAMILIES, Catalogue
from memoaized import model_commands
from memoaized.cli import main
from memoaized.hub_presets import ALL, PRESETS
from tests.hub_stub import COMMIT, HubStub, Repository
from tests.real import ROOT
from tests.stock_models import SCHEDULE, UNET, WIDTH, autoencoder, text_encoder, tokenizer, write_stable_diffusion
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions

UNUSED_FILES = (
    *("README.md", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "v1-inference.yaml", "unet/model.onnx"),
    *("unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors"),
    *("unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.bin"),
    *("text_encoder/pytorch_model.bin", "text_encoder/flax_model.msgpack", "text_encoder/model.fp16.safetensors"),
)
OPTIONS = PainterOptions(device="cpu", dtype="float32")


def write_cats(folder):
    """Write an unconditional model with all parts in one folder, as in google/ddpm-cat-256."""
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = UNet2DModel(sample_size=64, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, **kinds)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    for file in (*(folder / "unet").iterdir(), *(folder / "scheduler").iterdir()):
        file.rename(folder / file.name)
    for part in ("unet", "scheduler"):
        (folder / part).rmdir()


def write_consistency_model(folder):
    """Write a consistency model of the real classes."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**UNET, cross_attention_dim=WIDTH, attention_head_dim=4, time_cond_proj_dim=8)
    LatentConsistencyModelPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(CLIPTextModel),
        tokenizer=tokenizer(),
        unet=unet.eval(),
        scheduler=LCMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """A folder of toy models, each as a repository of the hub."""
    folder = tmp_path_factory.mktemp("repositories")
    write_stable_diffusion(folder)
    (folder / "sd" / "model.json").unlink()
    for path in UNUSED_FILES:
        (folder / "sd" / path).write_bytes(b"other files of a repository")
    write_cats(folder / "cats")
    write_consistency_model(folder / "lcm")
    return folder


@pytest.fixture
def stub(repositories, tmp_path, monkeypatch):
    """A hub with three models, and an empty cache."""
    stub = HubStub({f"toy/{name}": Repository(repositories / name) for name in ("sd", "cats", "lcm")})
    monkeypatch.setattr(model_commands, "hub", lambda: HfApi(endpoint=stub.url))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield stub
    stub.stop()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def run(folder):
    def call(*arguments):
        return CliRunner().invoke(main, ["model", *map(str, arguments), "--models", str(folder)])

    return call


def read_model_json(folder, name):
    return json.loads((folder / name / "model.json").read_text())


@pytest.mark.parametrize("preset", ALL, ids=lambda preset: preset.name)
def test_the_catalogue_accepts_every_preset(preset, folder):
    model_commands.write_model_json(preset.model_json(preset.name, None if preset.remote else COMMIT), folder)
    model = Catalogue(folder).model(preset.name)
    recipe = Catalogue(folder).recipe({"prompt": "a red fox"})
    assert (recipe.steps, recipe.sampler, recipe.width) == (preset.steps, preset.sampler, recipe.height)
    assert preset.family in (*STEP_LOOP_FAMILIES, PIPELINE, *REMOTE_FAMILIES) and model.remote == preset.remote
    assert model.negative_prompts == preset.negative_prompts
    assert bool(preset.min_gib) != preset.remote and model.licence == preset.licence


def test_presets_are_listed_with_source_licence_and_memory(run):
    listing = CliRunner().invoke(main, ["model", "presets"]).output
    for preset in ALL:
        assert preset.name in listing and preset.source in listing and preset.licence in listing
    assert listing.count("gated") == 2 and "34 GiB" in listing


def test_a_model_is_pinned_to_the_current_commit_of_its_branch(stub, tmp_path, folder):
    environment = {**os.environ, "HF_ENDPOINT": stub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "memoaized.cli", "model", "add", "toy/sd", "--models", str(folder)]
    output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert COMMIT in output and "/api/models/toy/sd/revision/main?blobs=true" in stub.paths
    model = read_model_json(folder, "sd")
    assert (model["family"], model["source"], model["hub_revision"]) == ("stable-diffusion", "toy/sd", COMMIT)
    assert (model["sizes"], model["licence"]) == ([64], "openrail++")


def test_a_preset_is_added_with_its_own_values(stub, repositories, run, folder):
    stub.models[PRESETS["sd15"].source] = Repository(repositories / "sd")
    assert run("add", "sd15", "--name", "old-friend").exit_code == 0
    assert read_model_json(folder, "old-friend") == PRESETS["sd15"].model_json("old-friend", COMMIT)


@pytest.mark.parametrize(("name", "family"), [("sd", "stable-diffusion"), ("cats", PIPELINE), ("lcm", PIPELINE)])
def test_a_downloaded_model_paints_without_a_hub(one_thread, stub, run, folder, monkeypatch, name, family):
    added = run("add", f"toy/{name}", "--download")
    assert added.exit_code == 0, added.output
    assert not [path for path in stub.paths if "/resolve/" in path and path.endswith(UNUSED_FILES[1:])]
    stub.stop()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    catalogue = Catalogue(folder)
    recipe = catalogue.recipe({"model": name, "prompt": "a red fox", "steps": 2, "seed": 1})
    steps = []
    image = open_painter(catalogue.model(name), OPTIONS)(recipe, lambda progress: steps.append(progress.step))
    assert image.size == (64, 64) and steps == [1, 2] and read_model_json(folder, name)["family"] == family
    assert catalogue.model(name).negative_prompts == (name == "sd")
    kinds = {"cats": "DDPMPipeline", "lcm": "LatentConsistencyModelPipeline"}
    assert read_model_json(folder, name).get("pipeline") == kinds.get(name) and catalogue.model(
        name
    ).image_to_image == (name == "sd")


def test_flux_pipelines_are_assumed_to_have_no_negative_prompts():
    parts = {
        "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
        "tokenizer": ("transformers", "T5Tokenizer"),
    }
    for pipeline, negative_prompts in (("FluxPipeline", False), ("StableDiffusion3Pipeline", True)):
        preset = model_commands.guess_preset(model_commands.HubModel("toy/flow", COMMIT, "MIT", pipeline, parts, {}))
        assert (preset.sampler, preset.negative_prompts) == ("euler", negative_prompts)


def test_a_gated_model_needs_a_token_and_the_error_names_its_page(stub, run, folder, monkeypatch):
    stub.models["toy/sd"].gated = True
    refused = run("add", "toy/sd")
    assert refused.exit_code == 1 and not folder.exists()
    assert f"accept its licence at {stub.url}/toy/sd" in refused.output and "HF_TOKEN" in refused.output
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert run("add", "toy/sd").exit_code == 0 and read_model_json(folder, "sd")["hub_revision"] == COMMIT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toy/nothing",), "the hub has no model toy/nothing.*HF_TOKEN"),
        (("toy/sd", "--revision", "v9"), "toy/sd has no such revision"),
        (("stable-diffusion-9",), "neither OWNER/MODEL .* nor a preset: sd15, sd21"),
        (("toy/sd", "--name", "../sd"), "--name"),
        (("hf-sdxl", "--download"), "painted by an external service"),
    ],
)
def test_a_model_that_cannot_be_added_is_reported_with_the_fix(stub, run, folder, arguments, message):
    refused = run("add", *arguments)
    assert refused.exit_code == 1 and not folder.exists()
    assert re.search(message, refused.output.replace("\n", " ")), refused.output


def test_without_a_hub_nothing_is_written(stub, run, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in run("add", "toy/sd").output
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    stub.stop()
    refused = run("add", "toy/sd")
    assert refused.exit_code == 1 and f"the hub at {stub.url} cannot be reached" in refused.output
    assert not folder.exists() and run("add", "bedrock-titan").exit_code == 0


@pytest.fixture
def copied(stub, repositories, tmp_path):
    """A copy of a repository that a test may change."""
    shutil.copytree(repositories / "sd", tmp_path / "copied")
    stub.models["toy/copied"] = Repository(tmp_path / "copied")
    return tmp_path / "copied"


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"])
def test_weights_other_than_plain_safetensors_are_refused(copied, run, folder, name):
    shutil.copy(copied / "unet" / "diffusion_pytorch_model.safetensors", copied / "unet" / name)
    for file in (copied / "unet").glob("diffusion*"):
        if file.name != name:
            file.unlink()
    refused = run("add", "toy/copied")
    assert refused.exit_code == 1 and f"unet/{name} but no plain safetensors" in refused.output.replace("\n", " ")
    assert not folder.exists()


def test_a_model_with_its_own_code_is_refused(copied, run, folder):
    index = json.loads((copied / "model_index.json").read_text())
    (copied / "model_index.json").write_text(json.dumps(index | {"unet": ["their_unet", "TheirUNet"]}))
    (copied / "unet" / "their_unet.py").write_text("raise SystemExit")
    assert "code from a repository is never run" in run("add", "toy/copied").output
    (copied / "model_index.json").write_text(json.dumps(index | {"_class_name": ["pipeline", "TheirPipeline"]}))
    assert "code from a repository is never run" in run("add", "toy/copied").output and not folder.exists()


def test_a_repository_without_a_pipeline_is_refused(copied, run):
    (copied / "model_index.json").unlink()
    assert "not a pipeline in diffusers' layout" in run("add", "toy/copied").output


def test_models_are_listed_and_removed(stub, run, folder):
    assert [run("add", name).exit_code for name in ("toy/sd", "hf-sdxl")] == [0, 0]
    assert run("add", "toy/sd").exit_code == 1  # it exists already
    listing = run("list").output
    assert f"toy/sd at {COMMIT[:12]}" in listing and "hf-sdxl" in listing
    assert run("remove", "sd").exit_code == 0 and list(Catalogue(folder).models()) == ["hf-sdxl"]
    assert "only hf-sdxl" in run("remove", "../hf-sdxl").output and (folder / "hf-sdxl").is_dir()
    assert [path.name for path in folder.iterdir()] == ["hf-sdxl"]


def test_the_shipped_model_is_removed_only_with_the_option_force(run, folder, tiny_models):
    shutil.copytree(tiny_models, folder)
    assert run("remove", "stickers").exit_code == 1 and (folder / "stickers").is_dir()
    assert run("remove", "stickers", "--force").exit_code == 0 and list(Catalogue(folder).models()) == ["slow"]
