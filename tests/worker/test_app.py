"""The painters of a worker are loaded once, replaced with their model, and block no others while loading."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

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


def change(catalogue, name):
    """Replace the model."""
    settings = catalogue.folder / name / "scheduler" / "scheduler_config.json"
    settings.write_text(settings.read_text() + "\n")


def test_a_model_is_loaded_once_and_reloaded_when_it_changes(catalogue):
    opened = []
    painters = Painters(catalogue, lambda model: opened.append(model.revision) or object())
    first = painters("one")
    assert painters("one") is first and painters("two") is not first
    change(catalogue, "one")
    assert painters("one") is not first and len(set(opened)) == 3
    assert len(painters.loaded) == 2


def test_a_recipe_for_replaced_weights_is_not_painted(catalogue):
    painters = Painters(catalogue, lambda model: model.revision)
    asked = catalogue.recipe({"model": "one", "prompt": "a fox", "seed": 1})
    assert painters.for_recipe(asked) == asked.revision
    change(catalogue, "one")
    with pytest.raises(BadSetup, match="one was replaced after this request .*: send the request again"):
        painters.for_recipe(asked)
    assert painters.for_recipe(catalogue.recipe({"model": "one", "prompt": "a fox", "seed": 1})) != asked.revision


def test_a_loaded_painter_is_usable_while_another_is_loading(catalogue):
    begun, slow = threading.Event(), threading.Event()

    def opening(model):
        if model.name == "two":
            begun.set()
            assert slow.wait(20)
        return object()

    painters = Painters(catalogue, opening)
    first = painters("one")
    with ThreadPoolExecutor(2) as pool:
        loading = [pool.submit(painters, "two") for _ in range(2)]
        assert begun.wait(20)
        assert painters("one") is first and not any(future.done() for future in loading)
        slow.set()
        assert len({id(future.result()) for future in loading}) == 1


def held(painter):
    """Its denoising network."""
    return painter.denoiser if hasattr(painter, "denoiser") else painter.pipe.unet


@pytest.mark.parametrize("name", ["one", "ddpm"])
def test_replaced_weights_are_freed(catalogue, name, monkeypatch):
    monkeypatch.setattr("worker.engine.on_demand_thread.IDLE_SECONDS", 0.05)
    write_ddpm(catalogue.folder)
    painters = Painters(catalogue, lambda model: open_painter(model, PainterOptions(slots=2)))
    painters(name)(catalogue.recipe({"model": name, "prompt": "a fox", "seed": 1, "steps": 2}), lambda step: None)
    network = weakref.ref(next(held(painters(name)).parameters()))
    change(catalogue, name)
    painters(name)
    assert wait_for(lambda: gc.collect() >= 0 and network() is None)
