"""The knob search with the real classes, at tiny size."""

import csv
from collections import Counter
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from PIL import Image

from memo.errors import BadSetup
from tests.tiny_model import write_tiny_vae
from training.captioned_pictures import CaptionedPictures
from training.pictures import knob_search, train_diffusion
from training.pictures.objective import TARGETS, make_objective


@pytest.fixture(scope="module")
def tiny_vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    return write_tiny_vae(folder)


@pytest.fixture
def knobs(pairs_folder, tiny_vae, tmp_path):
    return knob_search.Knobs(
        pairs=pairs_folder,
        vae=tiny_vae,
        out=tmp_path / "search",
        trials=3,
        steps=4,
        widths=(16,),
        levels=2,
        heads=2,
        batch=4,
        patch=1,
        rungs=4,
        unstopped=1,
        held_out=3,
        threads=1,
    )


def read_trials(folder):
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def open_study(folder):
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / knob_search.DATABASE}")
    return optuna.load_study(study_name="search", storage=storage), storage.engine.dispose


class Killed(BaseException):
    """Stands in for SIGKILL."""


@pytest.mark.parametrize("target", TARGETS)
def test_a_perfect_prediction_has_no_error_whatever_the_target(target):
    objective = make_objective(target, "cosine", 5.0)
    pictures, noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1)).chunk(2)
    for level in knob_search.LEVELS:
        step = knob_search.nearest_timestep(objective, level)
        noisy, prediction = objective.add_noise(pictures, noise, torch.tensor([step]))
        assert torch.allclose(
            knob_search.recover_clean_latents(objective, step, noisy, prediction), pictures, atol=1e-4
        )
        assert objective.sigma[step] / objective.alpha[step] == pytest.approx(level, rel=0.02)


def test_a_search_reports_and_saves_its_trials(knobs, capsys):
    reports = []
    folder = knob_search.train(knobs, on_row=lambda done, values: reports.append((done, values["error"])))
    table, printed = read_trials(folder), capsys.readouterr().out
    assert len(table) == 3 and all(0 < float(row["error"]) < 100 for row in table)
    assert [done for done, _ in reports] == [1, 2, 3] and reports[-1][1] <= reports[0][1]
    assert printed.split() == [
        word for row in [knob_search.COLUMNS, *(row.values() for row in table)] for word in row
    ]
    with Image.open(folder / "trials.png") as plot:
        assert plot.size == (1600, 340)
    assert sorted(entry.name for entry in next((folder / "trials").iterdir()).iterdir())[0] == "config.json"


def test_a_bad_trial_is_stopped_early(knobs, monkeypatch):
    """The second trial is worse at its first evaluations."""
    errors = iter([1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0])
    monkeypatch.setattr(knob_search.HeldOutTest, "error", lambda *_: next(errors))
    table = read_trials(knob_search.train(replace(knobs, trials=2)))
    assert [row["state"] for row in table] == ["done", "stopped"]
    assert table[0]["steps"] == "all" and int(table[1]["steps"]) < 4


def test_a_killed_search_resumes_its_trial_and_runs_the_rest(knobs, monkeypatch):
    knobs = replace(knobs, unstopped=9)
    knob_search.train(replace(knobs, trials=1))
    kill_in_third_step(monkeypatch)
    with pytest.raises(Killed):
        knob_search.train(knobs)
    monkeypatch.undo()
    resumed_at = []
    load_state = train_diffusion.load_state
    monkeypatch.setattr(
        train_diffusion, "load_state", lambda *a, **k: resumed_at.append(load_state(*a, **k)) or resumed_at[-1]
    )
    folder = knob_search.train(knobs)
    study, close = open_study(folder)
    killed, resumed = study.trials[1], study.trials[2]
    assert killed.state is optuna.trial.TrialState.FAIL and resumed.params == killed.params
    assert resumed_at == [2, 0] and len(read_trials(folder)) == 3
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 3
    close()


def kill_in_third_step(monkeypatch):
    set_learning_rate = train_diffusion.set_learning_rate

    def set_learning_rate_or_die(optimizer, knobs, step):
        if step == 2:
            raise Killed
        set_learning_rate(optimizer, knobs, step)

    monkeypatch.setattr(train_diffusion, "set_learning_rate", set_learning_rate_or_die)


def test_a_finished_search_accepts_more_trials_but_no_other_knobs(knobs):
    folder = knob_search.train(replace(knobs, trials=1))
    knob_search.train(replace(knobs, trials=2))
    assert len(read_trials(folder)) == 2
    with pytest.raises(BadSetup, match="steps 4 → 5"):
        knob_search.train(replace(knobs, steps=5))


def test_trials_do_not_train_on_the_held_out_pictures(knobs):
    all_different = np.random.default_rng(1).integers(0, 256, (16, 32, 32, 3), np.uint8)
    pairs = CaptionedPictures(all_different, tuple(map(str, range(16))))
    pairs.save(knobs.pairs)
    knobs.out.mkdir()
    held_out_test = knob_search.open_held_out_test(knobs, knobs.out, pairs)
    trial_data = torch.load(knobs.out / knob_search.DATASET, weights_only=True)
    everything = torch.load(knobs.out / "all.pt", weights_only=True)
    parts = (held_out_test.dataset.latents, trial_data["latents"], everything["latents"])
    held_out, trained_on, all_rows = (Counter(row.numpy().tobytes() for row in part) for part in parts)
    assert held_out.total() == 3 and trained_on.total() == 13 and held_out + trained_on == all_rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": ("w",)}, "targets: w unknown"),
        ({"schedules": ("steep",)}, "schedules: steep"),
        ({"lowest_rate": 1.0}, "lowest_rate 1.0"),
        ({"widths": (24,)}, "24 channels"),
        ({"held_out": 0}, "held_out 0 of 16"),
    ],
)
def test_unusable_settings_are_refused(knobs, change, message):
    with pytest.raises(BadSetup, match=message):
        knob_search.train(replace(knobs, **change))
