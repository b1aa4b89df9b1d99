"""Models of the hub, from a stub of its API: pinned, checked, accepted by the catalogue, and able to paint."""

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

from jobs.models import PIPELINE, REMOTE, STEPPED, Catalogue
from memoaized import model_commands as ours
from memoaized.cli import main
from memoaized.hub_presets import ALL, PRESETS
from tests.hub_stub import COMMIT, HubStub, Repository
from tests.real import ROOT
from tests.stock_models import SCHEDULE, UNET, WIDTH, autoencoder, text_encoder, tokenizer, write_stable_diffusion
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions

BALLAST = (
    *("README.md", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "v1-inference.yaml", "unet/model.onnx"),
    *("unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors"),
    *("unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.bin"),
    *("text_encoder/pytorch_model.bin", "text_encoder/flax_model.msgpack", "text_encoder/model.fp16.safetensors"),
)
MEANS = PainterOptions(device="cpu", dtype="float32")


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


def write_consistent(folder):
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
def written(tmp_path_factory):
    """Repositories of toy models."""
    folder = tmp_path_factory.mktemp("repositories")
    write_stable_diffusion(folder)
    (folder / "sd" / "model.json").unlink()
    for path in BALLAST:
        (folder / "sd" / path).write_bytes(b"other files of a repository")
    write_cats(folder / "cats")
    write_consistent(folder / "lcm")
    return folder


@pytest.fixture
def stub(written, tmp_path, monkeypatch):
    """A hub with three models, and an empty cache."""
    stub = HubStub({f"toy/{name}": Repository(written / name) for name in ("sd", "cats", "lcm")})
    monkeypatch.setattr(ours, "hub", lambda: HfApi(endpoint=stub.url))
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


def about(folder, name):
    return json.loads((folder / name / "model.json").read_text())


@pytest.mark.parametrize("preset", ALL, ids=lambda preset: preset.name)
def test_the_catalogue_accepts_every_preset(preset, folder):
    ours.write_model_json(preset.model_json(preset.name, None if preset.remote else COMMIT), folder)
    model = Catalogue(folder).model(preset.name)
    recipe = Catalogue(folder).recipe({"prompt": "a red fox"})
    assert (recipe.steps, recipe.sampler, recipe.width) == (preset.steps, preset.sampler, recipe.height)
    assert preset.family in (*STEPPED, PIPELINE, *REMOTE) and model.remote == preset.remote
    assert model.negative_prompts == preset.negative_prompts
    assert bool(preset.min_gib) != preset.remote and model.licence == preset.licence


def test_presets_are_listed_with_source_licence_and_memory(run):
    told = CliRunner().invoke(main, ["model", "presets"]).output
    for preset in ALL:
        assert preset.name in told and preset.source in told and preset.licence in told
    assert told.count("gated") == 2 and "34 GiB" in told


def test_a_model_is_pinned_to_the_current_commit_of_its_branch(stub, tmp_path, folder):
    environment = {**os.environ, "HF_ENDPOINT": stub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "memoaized.cli", "model", "add", "toy/sd", "--models", str(folder)]
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert COMMIT in said and "/api/models/toy/sd/revision/main?blobs=true" in stub.asked
    told = about(folder, "sd")
    assert (told["family"], told["source"], told["hub_revision"]) == ("stable-diffusion", "toy/sd", COMMIT)
    assert (told["sizes"], told["licence"]) == ([64], "openrail++")


def test_a_preset_keeps_its_own_values(stub, written, run, folder):
    stub.models[PRESETS["sd15"].source] = Repository(written / "sd")
    assert run("add", "sd15", "--name", "old-friend").exit_code == 0
    assert about(folder, "old-friend") == PRESETS["sd15"].model_json("old-friend", COMMIT)


@pytest.mark.parametrize(("name", "family"), [("sd", "stable-diffusion"), ("cats", PIPELINE), ("lcm", PIPELINE)])
def test_a_downloaded_model_paints_without_a_hub(one_thread, stub, run, folder, monkeypatch, name, family):
    added = run("add", f"toy/{name}", "--download")
    assert added.exit_code == 0, added.output
    assert not [path for path in stub.asked if "/resolve/" in path and path.endswith(BALLAST[1:])]
    stub.stop()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    catalogue = Catalogue(folder)
    recipe = catalogue.recipe({"model": name, "prompt": "a red fox", "steps": 2, "seed": 1})
    steps = []
    image = open_painter(catalogue.model(name), MEANS)(recipe, lambda progress: steps.append(progress.step))
    assert image.size == (64, 64) and steps == [1, 2] and about(folder, name)["family"] == family
    assert catalogue.model(name).negative_prompts == (name == "sd")
    kinds = {"cats": "DDPMPipeline", "lcm": "LatentConsistencyModelPipeline"}
    assert about(folder, name).get("pipeline") == kinds.get(name) and catalogue.model(name).image_to_image == (
        name == "sd"
    )


def test_flux_pipelines_are_assumed_to_have_no_negative_prompts():
    parts = {
        "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
        "tokenizer": ("transformers", "T5Tokenizer"),
    }
    for kind, negative_prompts in (("FluxPipeline", False), ("StableDiffusion3Pipeline", True)):
        found = ours.guess_preset(ours.HubModel("toy/flow", COMMIT, "MIT", kind, parts, {}))
        assert (found.sampler, found.negative_prompts) == ("euler", negative_prompts)


def test_a_gated_model_needs_a_token_and_names_its_page(stub, run, folder, monkeypatch):
    stub.models["toy/sd"].gated = True
    refused = run("add", "toy/sd")
    assert refused.exit_code == 1 and not folder.exists()
    assert f"accept its licence at {stub.url}/toy/sd" in refused.output and "HF_TOKEN" in refused.output
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert run("add", "toy/sd").exit_code == 0 and about(folder, "sd")["hub_revision"] == COMMIT


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("toy/nothing",), "the hub has no model toy/nothing.*HF_TOKEN"),
        (("toy/sd", "--revision", "v9"), "toy/sd has no such revision"),
        (("stable-diffusion-9",), "neither OWNER/MODEL .* nor a preset: sd15, sd21"),
        (("toy/sd", "--name", "../sd"), "--name"),
        (("hf-sdxl", "--download"), "painted by an external service"),
    ],
)
def test_a_model_that_cannot_be_added_is_reported_with_the_fix(stub, run, folder, arguments, said):
    refused = run("add", *arguments)
    assert refused.exit_code == 1 and not folder.exists()
    assert re.search(said, refused.output.replace("\n", " ")), refused.output


def test_without_a_hub_nothing_is_written(stub, run, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in run("add", "toy/sd").output
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    stub.stop()
    refused = run("add", "toy/sd")
    assert refused.exit_code == 1 and f"the hub at {stub.url} cannot be reached" in refused.output
    assert not folder.exists() and run("add", "bedrock-titan").exit_code == 0


@pytest.fixture
def changed(stub, written, tmp_path):
    """A copy of the model that a test may damage."""
    shutil.copytree(written / "sd", tmp_path / "changed")
    stub.models["toy/changed"] = Repository(tmp_path / "changed")
    return tmp_path / "changed"


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"])
def test_weights_that_would_not_be_loaded_are_refused(changed, run, folder, name):
    shutil.copy(changed / "unet" / "diffusion_pytorch_model.safetensors", changed / "unet" / name)
    for file in (changed / "unet").glob("diffusion*"):
        if file.name != name:
            file.unlink()
    refused = run("add", "toy/changed")
    assert refused.exit_code == 1 and f"unet/{name} but no plain safetensors" in refused.output.replace("\n", " ")
    assert not folder.exists()


def test_a_model_with_its_own_code_is_refused(changed, run, folder):
    index = json.loads((changed / "model_index.json").read_text())
    (changed / "model_index.json").write_text(json.dumps(index | {"unet": ["their_unet", "TheirUNet"]}))
    (changed / "unet" / "their_unet.py").write_text("raise SystemExit")
    assert "code from a repository is never run" in run("add", "toy/changed").output
    (changed / "model_index.json").write_text(json.dumps(index | {"_class_name": ["pipeline", "TheirPipeline"]}))
    assert "code from a repository is never run" in run("add", "toy/changed").output and not folder.exists()


def test_a_repository_without_a_pipeline_is_refused(changed, run):
    (changed / "model_index.json").unlink()
    assert "not a pipeline in diffusers' layout" in run("add", "toy/changed").output


def test_models_are_listed_and_removed(stub, run, folder):
    assert [run("add", wanted).exit_code for wanted in ("toy/sd", "hf-sdxl")] == [0, 0]
    assert run("add", "toy/sd").exit_code == 1  # there already
    told = run("list").output
    assert f"toy/sd at {COMMIT[:12]}" in told and "hf-sdxl" in told
    assert run("remove", "sd").exit_code == 0 and list(Catalogue(folder).models()) == ["hf-sdxl"]
    assert "only hf-sdxl" in run("remove", "../hf-sdxl").output and (folder / "hf-sdxl").is_dir()
    assert [path.name for path in folder.iterdir()] == ["hf-sdxl"]


def test_the_shipped_model_is_removed_only_with_force(run, folder, tiny_models):
    shutil.copytree(tiny_models, folder)
    assert run("remove", "stickers").exit_code == 1 and (folder / "stickers").is_dir()
    assert run("remove", "stickers", "--force").exit_code == 0 and list(Catalogue(folder).models()) == ["slow"]
