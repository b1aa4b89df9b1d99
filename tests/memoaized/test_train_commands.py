"""`memoaized train`: every knob is an option, pictures are checked first, and a run can become a model."""

import importlib
import json
import subprocess
import sys
from dataclasses import MISSING, fields

import pytest
from click.testing import CliRunner
from PIL import Image

from jobs.models import Catalogue
from jobs.store.job_store import open_job_store
from memo import BadSetup
from memoaized.cli import main
from memoaized.train_commands import check_name
from tests.real import ROOT, wait_for
from tests.tiny_model import write_tiny_vae
from training import RUNS
from training.knobs import from_arguments, read_knobs
from training.runs import TrainingRunner, TrainingStore


@pytest.fixture
def run():
    def call(*arguments):
        return CliRunner().invoke(main, ["train", *map(str, arguments)])

    return call


@pytest.fixture
def pictures(tmp_path):
    """The options that name twelve pictures of 32 px and their captions."""
    rows = ["file,caption"]
    for number in range(12):
        Image.new("RGB", (32, 32), (20 * number, 90, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,picture number {number}")
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    return "--images", tmp_path, "--captions", tmp_path / "captions.csv", "--side", 32


TINY_VAE = ("--steps", 2, "--batch", 2, "--crop", 16, "--held-out", 2, "--encoder-width", 8, "--decoder-width", 8)


@pytest.fixture
def tiny_diffusion(tmp_path):
    """The options of a tiny diffusion run of two steps."""
    write_tiny_vae(tmp_path / "vae")
    small = ("--steps", 2, "--batch", 2, "--channels", "16,32", "--heads", 2, "--threads", 1, "--log-every", 1)
    return "--vae", tmp_path / "vae", *small, "--patch", 1


@pytest.mark.parametrize("name", RUNS)
def test_every_knob_is_an_option_with_its_default_and_help(run, name):
    kind = importlib.import_module(RUNS[name]).Knobs
    knobs = {knob.name: knob for knob in read_knobs(RUNS[name])}
    assert [(field.name, field.default) for field in fields(kind)] == [(k.name, k.default) for k in knobs.values()]
    assert MISSING not in [field.default for field in fields(kind)]
    shown = run(name, "--help").output
    assert all(f"--{name.replace('_', '-')}" in shown for name in knobs)
    assert from_arguments(kind, None, []) == kind()


def test_the_help_needs_neither_torch_nor_celery():
    code = "import sys; from memoaized.cli import main; main(['train', 'diffusion', '--help'], standalone_mode=False)"
    code += "; sys.exit(any(name in sys.modules for name in ('torch', 'celery')))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "--learning-rate" in shown and "0.0008" in shown and "cosine" in shown


def test_bad_pictures_are_named_before_anything_is_loaded(tmp_path, pictures):
    (tmp_path / "captions.csv").write_text("file,caption\n0.png,\ngone.png,lost")
    code = "import sys; from memoaized.cli import main\ntry: main(sys.argv[1:])\n"
    code += "finally: assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "train", "diffusion", *map(str, pictures), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "2 of 2 rows" in done.stderr and "'gone.png' is missing" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_trains_on_the_users_own_pictures(run, pictures, tmp_path):
    out = tmp_path / "run"
    result = run("vae", *pictures, *TINY_VAE, "--threads", 1, "--log-every", 1, "--out", out)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("vae running, step 1 of 2, loss ") and lines[-1] == f"done: {out}"
    config = json.loads((out / "config.json").read_text())
    assert config["pairs"] == str(out / "pairs") and config["crop"] == 16
    assert list((out / "tensorboard").glob("events.*"))
    Image.new("RGB", (32, 32), "white").save(tmp_path / "0.png")
    result = run("vae", *pictures, *TINY_VAE, "--threads", 1, "--out", out)
    assert result.exit_code == 1 and "other pictures" in result.output


def test_a_named_run_becomes_a_model_of_the_product(run, pictures, tiny_diffusion, tmp_path):
    arguments = ("diffusion", *pictures, *tiny_diffusion, "--out", tmp_path / "run", "--models", tmp_path / "models")
    result = run(*arguments, "--name", "my-cats", "--title", "Cats")
    assert result.exit_code == 0, result.output
    models = Catalogue(tmp_path / "models").models()
    assert models["my-cats"].title == "Cats" and models["my-cats"].sizes[0] == 32
    assert run(*arguments, "--name", "my-cats").exit_code == 0  # its own model may be packed again
    other = ("--out", tmp_path / "other", "--models", tmp_path / "models")
    result = run("diffusion", *pictures, *tiny_diffusion, *other, "--name", "my-cats")
    assert result.exit_code == 1 and "there is a model my-cats" in result.output


def test_a_training_worker_executes_a_submitted_run(run, pictures, redis_url, tmp_path):
    submitted = run("vae", *pictures, *TINY_VAE, "--log-every", 1, "--out", tmp_path / "run", "--queue", redis_url)
    assert submitted.exit_code == 0, submitted.output
    training = submitted.output.strip()
    assert run("status", training, "--queue", redis_url).output == "vae queued, step 0 of 2\n"
    job_store = open_job_store(redis_url)
    assert job_store.connection.redis.llen("train") == 1 and job_store.connection.redis.llen("paint") == 0
    assert TrainingRunner(TrainingStore(job_store.connection)).run(training) == "done"
    job_store.connection.close()
    status = run("status", training, "--queue", redis_url, "--follow")
    assert status.exit_code == 0 and status.output.startswith("vae done, step 2 of 2, loss ")
    assert str(tmp_path / "run") in status.output


def test_following_ends_with_the_training(run, job_store, redis_url):
    import threading

    from jobs.job import State
    from training.runs import TrainingRequest

    trainings = TrainingStore(job_store.connection)
    training = trainings.create(TrainingRequest("vae", {"steps": 3}))
    results = []
    follower = threading.Thread(
        target=lambda: results.append(run("status", training, "--queue", redis_url, "--follow"))
    )
    follower.start()
    trainings.update(training, state=State.FAILED, error="no memory left")
    follower.join(20)
    wait_for(lambda: results, 5)
    assert results[0].exit_code == 1 and results[0].output.endswith("vae failed, step 0 of 3, no memory left\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vae", "--images", "."), "give --images and --captions together"),
        (("vae", "--queue", "amqp://x"), "must begin with redis://"),
        (("vae", "--steps", "many"), "'many' is not a whole number"),
        (("diffusion", "--channels", "32,x"), "'x' is not a whole number"),
        (("diffusion", "--channels", "8,8,16"), "--channels 8,8,16: 8 is no multiple of 16"),
        (("diffusion", "--name", "My Cats"), "lower case letters, digits and hyphens"),
        (("diffusion", "--name", "stickers"), "there is a model stickers"),
        (("status", "f" * 32, "--queue", "redis://127.0.0.1:1"), "the queue does not answer"),
    ],
)
def test_wrong_options_are_reported_in_one_line(run, arguments, message):
    result = run(*arguments)
    assert result.exit_code in (1, 2) and message in result.output
    assert "Traceback" not in result.output


def test_an_unknown_training_is_reported(run, redis_url):
    result = run("status", "f" * 32, "--queue", redis_url)
    assert result.exit_code == 1 and "there is no training" in result.output


def test_pictures_that_do_not_fit_the_run_are_refused(run, pictures, tiny_diffusion, tmp_path):
    result = run("vae", *pictures, "--out", tmp_path / "run")
    assert "--held-out 64 of 12 pictures" in result.output and "--held-out 2" in result.output
    result = run("diffusion", *pictures, *tiny_diffusion, "--side", 30, "--out", tmp_path / "run")
    assert "--side 30 must be a multiple of 8" in result.output


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "../a", "a" * 65, "a\n", "ä"])
def test_an_invalid_name_is_refused(name):
    with pytest.raises(BadSetup, match="--name"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "my-cats-2", "0", "a" * 64])
def test_a_valid_name_is_accepted(name):
    check_name(name)
