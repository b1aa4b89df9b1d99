"""Both training runs, with the real classes at tiny size."""

import csv
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline

from memo.errors import BadSetup
from worker.text import open_text_encoder
from worker.train import diffusion, ship, vae
from worker.train.checkpoint import LossTable
from worker.train.knobs import from_arguments

# diffusers hands tensors to numpy in a way that numpy 2 means to forbid
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def vae_knobs(pairs_folder, tmp_path):
    return vae.Knobs(
        pairs=pairs_folder,
        out=tmp_path / "vae",
        steps=20,
        batch=4,
        crop=32,
        held_out=4,
        encoder_width=8,
        decoder_width=8,
        threads=1,
        log_every=1,
    )


@pytest.fixture
def knobs(vae_knobs, tmp_path):
    """A diffusion run upon an autoencoder of two steps."""
    return diffusion.Knobs(
        pairs=vae_knobs.pairs,
        vae=vae.train(replace(vae_knobs, steps=2)) / "vae",
        out=tmp_path / "diffusion",
        steps=20,
        batch=8,
        channels=(16, 32),
        heads=2,
        threads=1,
        log_every=1,
    )


def losses(folder):
    with (folder / "loss.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_the_autoencoder_learns(vae_knobs):
    fallen = losses(vae.train(replace(vae_knobs, learning_rate=0.03)))
    assert len(fallen) == 20
    assert sum(fallen[-5:]) < 0.8 * sum(fallen[:5])


def test_the_diffusion_model_learns(knobs):
    fallen = losses(diffusion.train(replace(knobs, learning_rate=2e-2)))
    assert sum(fallen[-5:]) < 0.8 * sum(fallen[:5])


@pytest.mark.parametrize("run", [vae, diffusion])
def test_a_resumed_run_equals_an_uninterrupted_one(run, vae_knobs, knobs, tmp_path, monkeypatch):
    whole = replace(vae_knobs if run is vae else knobs, steps=6)
    run.train(replace(whole, out=tmp_path / "whole"))
    kill_after(3, run, monkeypatch)
    with pytest.raises(Killed):
        run.train(replace(whole, out=tmp_path / "killed", checkpoint_minutes=0))
    monkeypatch.undo()
    run.train(replace(whole, out=tmp_path / "killed"))
    assert (tmp_path / "killed/loss.csv").read_text() == (tmp_path / "whole/loss.csv").read_text()
    assert same_weights(tmp_path / "killed/state.pt", tmp_path / "whole/state.pt")


class Killed(BaseException):
    """Stands for the signal."""


def kill_after(steps, run, monkeypatch):
    """Let the run die in the middle of the step that follows."""
    rate, taken = run.set_rate, []

    def dying_rate(*arguments):
        if len(taken) == steps:
            raise Killed
        taken.append(None)
        rate(*arguments)

    monkeypatch.setattr(run, "set_rate", dying_rate)


def same_weights(one, other):
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    return all(
        torch.equal(first[part][name], second[part][name]) for part in ("model", "ema") for name in first[part]
    )


def test_after_the_joint_steps_only_the_decoder_changes(vae_knobs):
    knobs = replace(vae_knobs, joint_steps=2)
    before, after = (AutoencoderTiny.from_pretrained(vae.train(replace(knobs, steps=n)) / "vae") for n in (2, 4))
    assert same(before.encoder, after.encoder)
    assert not same(before.decoder, after.decoder)


def same(one, other):
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


def test_a_run_keeps_what_made_it(vae_knobs):
    folder = vae.train(replace(vae_knobs, steps=1))
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "figures.json",
        "loss.csv",
        "samples.png",
        "state.pt",
        "vae",
    }


def test_a_run_with_other_knobs_is_not_resumed(vae_knobs):
    vae.train(replace(vae_knobs, steps=1))
    with pytest.raises(BadSetup, match="batch 4 → 5"):
        vae.train(replace(vae_knobs, steps=2, batch=5))


def test_a_run_without_pictures_is_refused_before_it_begins(vae_knobs, tmp_path):
    with pytest.raises(BadSetup, match="no captioned pictures"):
        vae.train(replace(vae_knobs, pairs=tmp_path / "nothing"))


def test_a_lesson_pairs_every_picture_with_its_own_caption(knobs):
    lesson = torch.load(diffusion.train(replace(knobs, steps=1)) / "lesson.pt", weights_only=True)
    assert lesson["latents"].shape == (16, 4, 4, 4)
    assert lesson["states"].shape == (4, 24, 384)
    assert lesson["caption_of"][:4].unique().numel() == 4
    assert torch.equal(lesson["caption_of"][:4], lesson["caption_of"][4:8])


def test_nearly_clean_pictures_weigh_less_and_noisy_ones_fully():
    weights = diffusion.loss_weight(torch.tensor([0.0, 0.5, 0.8, 0.99]), 5.0)
    assert weights.tolist() == pytest.approx([1, 1, 1, 0.05])


def test_the_loss_table_forgets_what_came_after_the_checkpoint(tmp_path):
    table = LossTable(tmp_path / "loss.csv", ("loss",), step=0)
    for step in (1, 2, 3):
        table.add(step)
        table.write(step)
    LossTable(tmp_path / "loss.csv", ("loss",), step=2)
    assert losses(tmp_path) == [1, 2]


def test_knobs_are_given_on_the_command_line():
    knobs = from_arguments(diffusion.Knobs, None, ["--channels", "32", "64", "--learning-rate", "1e-3"])
    assert knobs == diffusion.Knobs(channels=(32, 64), learning_rate=1e-3)


def test_a_shipped_model_paints_with_the_stock_pipeline(knobs, tmp_path):
    run = diffusion.train(replace(knobs, steps=1))
    folder = ship.ship(ship.Knobs(vae=knobs.vae.parent, diffusion=run, out=tmp_path / "models/tiny"))
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None
    )
    encode = open_text_encoder()
    pictures = pipeline(
        prompt_embeds=encode(["a square"]), negative_prompt_embeds=encode([""]), num_inference_steps=2
    ).images
    assert pictures[0].size == (32, 32)


def test_shipping_again_keeps_the_card_and_leaves_no_scraps(knobs, tmp_path):
    packing = ship.Knobs(
        vae=knobs.vae.parent, diffusion=diffusion.train(replace(knobs, steps=1)), out=tmp_path / "models/tiny"
    )
    (ship.ship(packing) / "README.md").write_text("a card")
    assert (ship.ship(packing) / "README.md").read_text() == "a card"
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == ["tiny"]


def test_a_run_that_never_was_cannot_be_shipped(tmp_path):
    with pytest.raises(BadSetup, match="train it first"):
        ship.ship(ship.Knobs(vae=tmp_path, diffusion=tmp_path, out=tmp_path / "model"))


def test_prompts_become_24_states_whatever_their_length():
    encode = open_text_encoder()
    states = encode(["a fox", "", "word " * 100])
    assert states.shape == (3, 24, 384) and states.dtype == torch.float32
    assert torch.allclose(encode(["a fox"])[0], states[0], atol=1e-5)
    assert encode([]).shape == (0, 24, 384)
