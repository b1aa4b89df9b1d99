"""The painters of a worker are loaded once, replaced with their model, and block no others while loading."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.celery_app import exit_on_error
from jobs.models import Catalogue
from memo import BadSetup
from tests.real import wait_for
from tests.stock_models import write_ddpm
from tests.tiny_model import write_tiny_model
from worker.app import Painters
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions


@pytest.fixture
def catalogue(tmp_path):
    write_tiny_model(tmp_path, name="one")
    write_tiny_model(tmp_path, name="two")
    return Catalogue(tmp_path)


def replace_model(catalogue, name):
    """Change a file of the model, so that it counts as replaced."""
    settings = catalogue.folder / name / "scheduler" / "scheduler_config.json"
    settings.write_text(settings.read_text() + "\n")


def test_a_model_is_loaded_once_and_reloaded_when_it_changes(catalogue):
    opened = []
    painters = Painters(catalogue, lambda model: opened.append(model.revision) or object())
    first = painters("one")
    assert painters("one") is first and painters("two") is not first
    replace_model(catalogue, "one")
    assert painters("one") is not first and len(set(opened)) == 3
    assert len(painters.loaded) == 2


def test_a_recipe_for_replaced_weights_is_not_painted(catalogue):
    painters = Painters(catalogue, lambda model: model.revision)
    recipe = catalogue.recipe({"model": "one", "prompt": "a fox", "seed": 1})
    assert painters.for_recipe(recipe) == recipe.revision
    replace_model(catalogue, "one")
    with pytest.raises(BadSetup, match="one was replaced after this request .*: send the request again"):
        painters.for_recipe(recipe)
    assert painters.for_recipe(catalogue.recipe({"model": "one", "prompt": "a fox", "seed": 1})) != recipe.revision


def test_a_loaded_painter_can_be_used_while_another_is_loading(catalogue):
    loading_started, may_finish = threading.Event(), threading.Event()

    def load_painter(model):
        if model.name == "two":
            loading_started.set()
            assert may_finish.wait(20)
        return object()

    painters = Painters(catalogue, load_painter)
    first = painters("one")
    with ThreadPoolExecutor(2) as pool:
        loading = [pool.submit(painters, "two") for _ in range(2)]
        assert loading_started.wait(20)
        assert painters("one") is first and not any(future.done() for future in loading)
        may_finish.set()
        assert len({id(future.result()) for future in loading}) == 1


def denoising_network(painter):
    """Return the denoising network of a painter of either kind."""
    return painter.denoiser if hasattr(painter, "denoiser") else painter.pipe.unet


@pytest.mark.parametrize("name", ["one", "ddpm"])
def test_replaced_weights_are_freed(catalogue, name, monkeypatch):
    monkeypatch.setattr("worker.engine.on_demand_thread.IDLE_SECONDS", 0.05)
    write_ddpm(catalogue.folder)
    painters = Painters(catalogue, lambda model: open_painter(model, PainterOptions(slots=2)))
    painters(name)(catalogue.recipe({"model": name, "prompt": "a fox", "seed": 1, "steps": 2}), lambda step: None)
    network = weakref.ref(next(denoising_network(painters(name)).parameters()))
    replace_model(catalogue, name)
    painters(name)
    assert wait_for(lambda: gc.collect() >= 0 and network() is None)


@pytest.mark.parametrize("fault", [BadSetup("no model"), OSError(30, "read-only"), IndexError("list index")])
def test_whatever_fails_at_the_start_ends_the_process_with_the_reason(fault):
    def fail(**_):
        raise fault

    with pytest.raises(SystemExit, match="this worker cannot start: .*(no model|read-only|list index)"):
        exit_on_error(fail)(sender=None)
