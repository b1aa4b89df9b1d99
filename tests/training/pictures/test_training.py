"""The runs of autoencoder and diffusion model, and packing their results, with the real classes at tiny size."""

import csv
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionAdapterPipeline, StableDiffusionPipeline

from jobs.models import Catalogue
from memo.errors import BadSetup
from training.captioned_pictures import CaptionedPictures, open_captioned_pictures
from training.checkpoint import LossTable
from training.knobs import from_arguments
from training.pictures import packing, train_diffusion, train_vae
from training.pictures.objective import SCHEDULES, TARGETS
from training.scenes import compose
from worker.engine.latents import decode
from worker.engine.text_encoder import open_text_encoder
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions

# diffusers turns tensors into arrays in a way that numpy 2 has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


QUICK = {"learning_rate": 3e-2, "batch": 32}  # enough to see progress in twenty steps, most of them warm-up


@pytest.fixture
def knobs(vae_knobs, tmp_path):
    """The knobs of a diffusion run, with an autoencoder trained for two steps."""
    return train_diffusion.Knobs(
        pairs=vae_knobs.pairs,
        vae=train_vae.train(replace(vae_knobs, steps=2)) / "vae",
        out=tmp_path / "diffusion",
        steps=20,
        batch=8,
        channels=(16, 32),
        heads=2,
        threads=1,
        log_every=1,
    )


def read_losses(folder):
    with (folder / "loss.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_the_autoencoder_learns(vae_knobs):
    losses = read_losses(train_vae.train(replace(vae_knobs, learning_rate=0.03)))
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("held_out", [-1, 0, 99])
def test_an_autoencoder_needs_pictures_to_train_on_and_to_hold_out(vae_knobs, held_out):
    with pytest.raises(BadSetup, match=f"held_out {held_out} of .* pictures: hold out at least 1 and leave"):
        train_vae.train(replace(vae_knobs, held_out=held_out))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", TARGETS)
def test_the_diffusion_model_learns_every_target_on_every_schedule(knobs, target, schedule):
    losses = read_losses(train_diffusion.train(replace(knobs, **QUICK, target=target, schedule=schedule)))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_the_diffusion_model_learns_in_bfloat16(knobs):
    losses = read_losses(train_diffusion.train(replace(knobs, **QUICK, bf16=True)))
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


@pytest.fixture
def label_knobs(knobs, tmp_path):
    """The knobs of a run on the same pictures with class names for captions."""
    pairs = open_captioned_pictures(knobs.pairs)
    names = tuple(caption.removeprefix("a square ") for caption in pairs.captions)
    CaptionedPictures(pairs.images, names, labelled=True).save(tmp_path / "labelled")
    return replace(knobs, pairs=tmp_path / "labelled")


def test_the_diffusion_model_learns_from_labels(label_knobs):
    losses = read_losses(train_diffusion.train(replace(label_knobs, **QUICK)))
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


@pytest.fixture
def sheet_knobs(knobs, bank, tmp_path):
    """The knobs of a run on scenes of 128 px with their sheets, and with an autoencoder that fits."""
    folder = compose.write_scenes(
        compose.Knobs(bank=bank.folder, out=tmp_path / "scenes", count=16, styles=("3d",), processes=1)
    )
    autoencoder = train_vae.Knobs(
        folder, tmp_path / "vae4", steps=2, batch=4, crop=32, held_out=4, encoder_width=8, threads=1
    )
    return replace(knobs, pairs=folder, vae=train_vae.train(replace(autoencoder, decoder_width=8)) / "vae", patch=2)


def test_the_diffusion_model_learns_from_sheets(sheet_knobs):
    losses = read_losses(train_diffusion.train(replace(sheet_knobs, **QUICK)))
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


def test_the_prediction_depends_on_the_sheet(sheet_knobs):
    """Without its sheet a model must predict something else; otherwise it ignores sheets."""
    run = train_diffusion.train(replace(sheet_knobs, steps=3))
    dataset = train_diffusion.open_dataset(
        run / "dataset.pt", open_captioned_pictures(sheet_knobs.pairs), None, None, sheet_knobs.pairs, 2
    )
    model = train_diffusion.build_model(replace(sheet_knobs, begin=str(run)), dataset)
    rows, no_rows = torch.arange(2), torch.zeros(2, dtype=torch.bool)
    noisy, timesteps = torch.randn(2, 16, 16, 16), torch.tensor([500, 500])
    with torch.no_grad():
        with_sheets, without_sheets = (
            model(noisy, timesteps, dataset.conditioning(rows, no_rows, dropped)) for dropped in (no_rows, ~no_rows)
        )
    assert (with_sheets - without_sheets).abs().mean() > 1e-3


@pytest.mark.parametrize("run", [train_vae, train_diffusion])
def test_a_resumed_run_equals_an_uninterrupted_one(run, vae_knobs, knobs, tmp_path, monkeypatch):
    six_steps = replace(vae_knobs if run is train_vae else knobs, steps=6)
    run.train(replace(six_steps, out=tmp_path / "whole"))
    kill_after(3, run, monkeypatch)
    with pytest.raises(Killed):
        run.train(replace(six_steps, out=tmp_path / "killed", checkpoint_minutes=0))
    monkeypatch.undo()
    run.train(replace(six_steps, out=tmp_path / "killed"))
    assert (tmp_path / "killed/loss.csv").read_text() == (tmp_path / "whole/loss.csv").read_text()
    assert same_weights(tmp_path / "killed/state.pt", tmp_path / "whole/state.pt")


class Killed(BaseException):
    """Stands in for SIGKILL."""


def kill_after(steps, run, monkeypatch):
    """Let the run die in the middle of the next step."""
    set_learning_rate, steps_taken = run.set_learning_rate, []

    def set_learning_rate_or_die(*arguments):
        if len(steps_taken) == steps:
            raise Killed
        steps_taken.append(None)
        set_learning_rate(*arguments)

    monkeypatch.setattr(run, "set_learning_rate", set_learning_rate_or_die)


def same_weights(path, other_path):
    first, second = (torch.load(file, weights_only=True) for file in (path, other_path))
    return all(
        torch.equal(first[part][name], second[part][name]) for part in ("model", "ema") for name in first[part]
    )


def test_after_the_joint_steps_only_the_decoder_changes(vae_knobs):
    knobs = replace(vae_knobs, joint_steps=2)
    before, after = (
        AutoencoderTiny.from_pretrained(train_vae.train(replace(knobs, steps=n)) / "vae") for n in (2, 4)
    )
    assert same_parameters(before.encoder, after.encoder)
    assert not same_parameters(before.decoder, after.decoder)


def same_parameters(first, second):
    return all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))


def test_a_run_folder_holds_the_documented_files(vae_knobs):
    folder = train_vae.train(replace(vae_knobs, steps=1))
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "figures.json",
        "loss.csv",
        "samples.png",
        "state.pt",
        "tensorboard",
        "vae",
    }


def test_a_run_with_other_knobs_is_not_resumed(vae_knobs):
    train_vae.train(replace(vae_knobs, steps=1))
    with pytest.raises(BadSetup, match="batch 4 → 5"):
        train_vae.train(replace(vae_knobs, steps=2, batch=5))


def test_a_run_without_pictures_is_refused_before_it_starts(vae_knobs, tmp_path):
    with pytest.raises(BadSetup, match="no captioned pictures"):
        train_vae.train(replace(vae_knobs, pairs=tmp_path / "nothing"))


def test_the_dataset_links_every_picture_to_its_own_caption(knobs):
    dataset = torch.load(train_diffusion.train(replace(knobs, steps=1)) / "dataset.pt", weights_only=True)
    assert dataset["latents"].shape == (16, 16, 4, 4)
    assert dataset["states"].shape == (4, 24, 384)
    assert dataset["caption_rows"][:4].unique().numel() == 4
    assert torch.equal(dataset["caption_rows"][:4], dataset["caption_rows"][4:8])


def test_a_resumed_loss_table_drops_rows_after_the_checkpoint(tmp_path):
    table = LossTable(tmp_path / "loss.csv", ("loss",), step=0)
    for step in (1, 2, 3):
        table.add(step)
        table.write(step)
    LossTable(tmp_path / "loss.csv", ("loss",), step=2)
    assert read_losses(tmp_path) == [1, 2]


def test_knobs_are_read_from_the_command_line():
    knobs = from_arguments(train_diffusion.Knobs, None, ["--channels", "32", "64", "--learning-rate", "1e-3"])
    assert knobs == train_diffusion.Knobs(channels=(32, 64), learning_rate=1e-3)


def test_a_packed_model_paints_with_the_stock_pipeline(knobs, tmp_path):
    run = train_diffusion.train(replace(knobs, steps=1))
    folder = packing.pack_model(packing.Knobs(vae=knobs.vae, diffusion=run, out=tmp_path / "models/tiny"))
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None
    )
    encode = open_text_encoder()
    latents = pipeline(
        prompt_embeds=encode(["a square"]),
        negative_prompt_embeds=encode([""]),
        num_inference_steps=2,
        output_type="latent",
    ).images
    with torch.no_grad():
        assert decode(pipeline.vae, latents, 2).shape == (1, 3, 32, 32)


def test_a_packed_model_with_sheets_paints_with_the_stock_pipeline(sheet_knobs, bank, tmp_path):
    run = train_diffusion.train(replace(sheet_knobs, steps=1))
    packed = packing.Knobs(sheet_knobs.vae, run, bank=str(bank.folder), sprite_side=20, out=tmp_path / "models/tiny")
    pipeline = StableDiffusionAdapterPipeline.from_pretrained(
        packing.pack_model(packed), text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None
    )
    encode = open_text_encoder()
    latents = pipeline(
        image=torch.zeros(1, pipeline.adapter.config.in_channels, 16, 16),
        prompt_embeds=encode(["a square"]),
        negative_prompt_embeds=encode([""]),
        height=64,  # as many positions as the sheet has: the pipeline knows nothing of patches
        width=64,
        num_inference_steps=2,
        output_type="latent",
    ).images
    assert latents.shape[1] == 16


@pytest.mark.parametrize("kind", ["knobs", "label_knobs", "sheet_knobs"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_worker_can_paint_with_every_kind_of_model(kind, target, request, bank, tmp_path):
    run_knobs = replace(request.getfixturevalue(kind), steps=1, target=target)
    packed = packing.Knobs(run_knobs.vae, train_diffusion.train(run_knobs), out=tmp_path / "models/tiny")
    packing.pack_model(replace(packed, bank=str(bank.folder) if kind == "sheet_knobs" else ""))
    catalogue = Catalogue(tmp_path / "models")
    model = catalogue.model("tiny")
    painter = open_painter(model, PainterOptions())
    for sampler in model.samplers:
        fields = {"prompt": "a zig left", "seed": 1, "steps": 2, "sampler": sampler, "width": 128, "height": 128}
        assert painter(catalogue.recipe(fields), lambda step: None).size == (128, 128)


def test_a_model_with_sheets_is_not_packed_without_a_bank(sheet_knobs, tmp_path):
    run = train_diffusion.train(replace(sheet_knobs, steps=1))
    with pytest.raises(BadSetup, match="--bank FOLDER"):
        packing.pack_model(packing.Knobs(sheet_knobs.vae, run, out=tmp_path / "models/tiny"))


def test_packing_again_keeps_the_model_card_and_leaves_no_temporary_folders(knobs, tmp_path):
    packed = packing.Knobs(
        vae=knobs.vae, diffusion=train_diffusion.train(replace(knobs, steps=1)), out=tmp_path / "models/tiny"
    )
    (packing.pack_model(packed) / "README.md").write_text("a card")
    assert (packing.pack_model(packed) / "README.md").read_text() == "a card"
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == ["tiny"]


def test_a_missing_run_cannot_be_packed(tmp_path):
    with pytest.raises(BadSetup, match="train it first"):
        packing.pack_model(packing.Knobs(vae=tmp_path, diffusion=tmp_path, out=tmp_path / "model"))


def test_prompts_of_any_length_become_24_states():
    encode = open_text_encoder()
    states = encode(["a fox", "", "word " * 100])
    assert states.shape == (3, 24, 384) and states.dtype == torch.float32
    assert torch.allclose(encode(["a fox"])[0], states[0], atol=1e-5)
    assert encode([]).shape == (0, 24, 384)
