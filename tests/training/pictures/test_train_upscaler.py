"""The upscaler run with the real classes, at tiny size."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from memo.errors import BadSetup
from training.captioned_pictures import CaptionedPictures
from training.pictures import train_upscaler, train_vae
from worker.engine.upscaler import open_upscaler


@pytest.fixture
def knobs(pairs_folder, tmp_path):
    return train_upscaler.Knobs(
        pairs=pairs_folder,
        vae="",
        out=tmp_path / "run",
        steps=20,
        batch=4,
        crop=16,
        held_out=4,
        width=8,
        blocks=1,
        learning_rate=0.02,
        threads=1,
        log_every=1,
    )


@pytest.fixture
def autoencoder(tmp_path):
    """The folder of an untrained autoencoder."""
    train_vae.build_autoencoder(train_vae.Knobs(encoder_width=8, decoder_width=8)).save_pretrained(
        tmp_path / "autoencoder"
    )
    return str(tmp_path / "autoencoder")


def read_losses(folder):
    with (folder / "loss.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def read_figures(folder):
    return json.loads((folder / "figures.json").read_text())


def test_the_upscaler_learns(knobs):
    losses = read_losses(train_upscaler.train(replace(knobs, crop=32, learning_rate=0.05)))
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("scale", [2, 4])
def test_a_short_run_beats_plain_enlargement(knobs, scale):
    measured = read_figures(train_upscaler.train(replace(knobs, scale=scale, steps=150, ema=0.9)))
    assert measured["network"]["psnr"] > measured["lanczos"]["psnr"] + 3
    assert measured["network"]["edge_error"] < 0.7 * measured["lanczos"]["edge_error"]


FILES = ("loss.csv", "figures.json", "samples.png", "small.npy", "upscaler/config.json", "upscaler/model.safetensors")


def test_a_resumed_run_equals_an_uninterrupted_one(knobs, tmp_path, monkeypatch):
    whole, killed = (replace(knobs, steps=6, out=tmp_path / name) for name in ("whole", "killed"))
    train_upscaler.train(whole)
    kill_after(3, monkeypatch)
    with pytest.raises(Killed):
        train_upscaler.train(replace(killed, checkpoint_minutes=0))
    monkeypatch.undo()
    train_upscaler.train(killed)
    assert [name for name in FILES if (whole.out / name).read_bytes() != (killed.out / name).read_bytes()] == []
    assert same_weights(whole.out / "state.pt", killed.out / "state.pt")


class Killed(BaseException):
    """Stands in for SIGKILL."""


def kill_after(steps, monkeypatch):
    """Let the run die in the middle of the next step."""
    draw_crops, steps_taken = train_upscaler.draw_crops, []

    def draw_crops_or_die(*arguments):
        if len(steps_taken) == steps:
            raise Killed
        steps_taken.append(None)
        return draw_crops(*arguments)

    monkeypatch.setattr(train_upscaler, "draw_crops", draw_crops_or_die)


def same_weights(path, other_path):
    first, second = (torch.load(file, weights_only=True) for file in (path, other_path))
    return all(
        torch.equal(first[part][name], second[part][name]) for part in ("model", "ema") for name in first[part]
    )


def test_two_threads_compute_the_same_losses_as_one(knobs):
    single, double = (
        train_upscaler.train(replace(knobs, steps=3, threads=n, out=knobs.out / str(n))) for n in (1, 2)
    )
    assert read_losses(single) == pytest.approx(read_losses(double), abs=2e-5)


def test_small_and_large_crops_show_the_same_place(knobs):
    large = np.random.default_rng(1).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    small = train_upscaler.to_bytes(train_upscaler.reduce_by_area(large, 4))
    small_crops, large_crops = train_upscaler.draw_crops(
        small, large, replace(knobs, scale=4), torch.Generator().manual_seed(3)
    )
    assert large_crops.shape == (4, 3, 16, 16)
    assert torch.allclose(torch.nn.functional.avg_pool2d(large_crops, 4), small_crops, atol=0.005)


def test_held_out_pictures_are_never_trained_on(knobs):
    large = np.zeros((16, 32, 32, 3), np.uint8)
    large[-4:] = 255
    drawn = [
        train_upscaler.draw_crops(large[:, ::2, ::2], large, knobs, torch.Generator().manual_seed(seed))
        for seed in range(20)
    ]
    assert all((large_crops == -1).all() for _, large_crops in drawn)


def test_small_pictures_pass_through_the_autoencoder(knobs, autoencoder):
    measured = read_figures(folder := train_upscaler.train(replace(knobs, steps=1, vae=autoencoder)))
    images, model = np.load(knobs.pairs / "images.npy"), AutoencoderTiny.from_pretrained(autoencoder)
    with torch.no_grad():
        expected = model(train_upscaler.reduce_by_area(images, 2)).sample
    assert np.abs(np.load(folder / "small.npy").astype(int) - train_upscaler.to_bytes(expected)).max() <= 1
    assert measured["lanczos_without_vae"]["psnr"] > measured["lanczos"]["psnr"]


def test_small_pictures_are_computed_once(knobs, monkeypatch):
    train_upscaler.train(replace(knobs, steps=1))
    monkeypatch.setattr(train_upscaler, "write_small_pictures", None)
    train_upscaler.train(replace(knobs, steps=2))


def test_small_pictures_of_a_run_without_a_state_are_computed_again(knobs):
    knobs.out.mkdir()
    np.save(knobs.out / "small.npy", np.zeros((16, 16, 16, 3), np.uint8))
    assert np.load(train_upscaler.train(replace(knobs, steps=1)) / "small.npy").any()


def test_a_run_folder_holds_its_knobs_and_an_upscaler_that_can_be_opened(knobs):
    folder = train_upscaler.train(replace(knobs, steps=1))
    names = {file.name for file in folder.iterdir()}
    assert names >= {"config.json", "figures.json", "loss.csv", "samples.png", "small.npy", "state.pt", "upscaler"}
    assert open_upscaler(folder / "upscaler")(Image.new("RGB", (5, 3))).size == (10, 6)


def test_the_samples_show_lanczos_network_and_original(knobs):
    with Image.open(train_upscaler.train(replace(knobs, steps=1)) / "samples.png") as sheet:
        assert sheet.size == (3 * 32, 4 * 32)
        truth = np.asarray(sheet)[:32, 64:]
    assert np.abs(truth.astype(int) - np.load(knobs.pairs / "images.npy")[-4]).max() <= 1


def test_a_small_constant_error_has_the_expected_figures():
    true = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    measured = train_upscaler.measure_quality(true + 0.02, true)
    assert measured == pytest.approx({"psnr": 40, "edge_error": 0, "sharpness": 1}, abs=1e-4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scale": 3}, "scale must be 2 or 4, not 3"),
        ({"held_out": 9}, "held_out 9 of 16 pictures"),
        ({"held_out": 0}, "held_out 0 of 16 pictures"),
        ({"crop": 34}, "crop 34 must be a multiple of 2 and at most 32"),
        ({"crop": 15}, "crop 15 must be a multiple of 2"),
        ({"crop": 0}, "crop 0 must"),
        ({"pairs": 33}, "pictures of 33 px cannot be made 2× smaller: the side must be a multiple of 2"),
        ({"vae": "nowhere"}, "vae nowhere holds no autoencoder"),
    ],
)
def test_bad_settings_are_refused_with_their_value(knobs, tmp_path, change, message):
    if "pairs" in change:
        change = change | {"pairs": save_black_pictures(change["pairs"], tmp_path / "odd")}
    with pytest.raises(BadSetup, match=message):
        train_upscaler.train(replace(knobs, **change))
    assert not knobs.out.exists()


def test_pictures_that_do_not_fill_whole_latents_are_refused(knobs, autoencoder, tmp_path):
    unfit = replace(knobs, pairs=save_black_pictures(34, tmp_path / "odd"), vae=autoencoder)
    with pytest.raises(BadSetup, match=r"pictures of 34 px cannot .* must be a multiple of (8|16)$"):
        train_upscaler.train(unfit)


def save_black_pictures(side, folder):
    CaptionedPictures(np.zeros((16, side, side, 3), np.uint8), ("black",) * 16).save(folder)
    return folder


def test_a_run_with_other_knobs_is_not_resumed(knobs):
    train_upscaler.train(replace(knobs, steps=1))
    with pytest.raises(BadSetup, match="blocks 1 → 2"):
        train_upscaler.train(replace(knobs, steps=2, blocks=2))
