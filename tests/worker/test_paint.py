"""One painting from claim to stored picture: run twice, interrupted, without the index, without the store."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from PIL import Image

from jobs.job import State
from jobs.serialize import job_to_generation
from jobs.store.job_store import open_job_store
from memo import BadSetup, Unavailable, read_png
from memo.index import open_index
from memo.init_image import init_image_object_name
from tests.real import painted, two_colours, wait_for
from worker.paint import MAX_ATTEMPTS
from worker.painters.port import Progress, TooLarge


@pytest.fixture
def job(job_store, recipe):
    return job_store.submissions.open_job(replace(recipe, steps=4), reason="", scope="shared", joinable=True)


def test_the_picture_is_stored_indexed_and_then_the_job_is_done(runner, job_store, memory, job):
    assert runner.paint(job.recipe.model) == "done"
    done = job_store.jobs.find(job.id)
    assert done.state is State.DONE and done.picture.recipe == job.recipe
    assert read_png(memory.image(done.picture.key)) == done.picture == memory.index.get(done.picture.key)
    assert done.picture.device == "test" and done.picture.seconds >= 0


@pytest.mark.parametrize("kept", [b"", b"<html>", b"half"], ids=["empty", "page", "half"])
def test_a_damaged_initial_picture_fails_its_job_at_once_and_says_what_to_do(runner, job_store, memory, recipe, kept):
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    name = memory.keep_init_image(file.getvalue())
    memory.store.delete(init_image_object_name(name, "shared"))
    memory.store.put(init_image_object_name(name, "shared"), file.getvalue()[:60] if kept == b"half" else kept)
    job = job_store.submissions.open_job(
        replace(recipe, steps=4, init_image=name), reason="", scope="shared", joinable=True
    )
    assert runner.paint(recipe.model) == "failed"
    assert "upload the initial picture again" in job_store.jobs.find(job.id).error


def test_the_log_of_the_worker_holds_no_prompt(runner, job_store, painter, recipe, caplog):
    """Whoever reads the log of a shared machine must not read what its users asked for."""
    caplog.set_level("DEBUG", "worker")
    for number, fault in enumerate([None, RuntimeError("out of ochre"), TooLarge(recipe, "cpu", RuntimeError("x"))]):
        painter.fault = fault
        private = replace(recipe, steps=4, prompt=f"a secret party of {number} foxes")
        job_store.submissions.open_job(private, reason="", scope="ada", joinable=True)
        assert runner.paint(recipe.model) == ("left" if fault else "done")
    assert "painting" in caplog.text and "attempt" in caplog.text and "secret" not in caplog.text


def test_a_task_run_twice_gives_one_picture(runner, painter, memory, job):
    assert [runner.paint(job.recipe.model), runner.paint(job.recipe.model)] == ["done", "nothing"]
    assert len(painter.painted) == 1 and memory.index.count() == 1 and len(list(memory.store.names())) == 1


def test_a_picture_stored_by_a_worker_that_then_died_is_not_painted_again(runner, painter, job_store, memory, job):
    picture, png = painted(job.recipe, seed=job.recipe.seed)
    memory.keep(picture, png)
    assert runner.paint(job.recipe.model) == "done"
    assert painter.painted == [] and job_store.jobs.find(job.id).picture == picture


def test_a_picture_that_another_worker_stores_in_the_meantime_stays(runner, painter, job_store, memory, job):
    first, png = painted(job.recipe, seed=job.recipe.seed)

    def late(recipe, on_step, init_image=None, turn=None):
        memory.keep(first, png)
        return painter(recipe, on_step)

    runner.painters = lambda name: type(
        "Late", (), {"device": "late", "metered": False, "__call__": staticmethod(late)}
    )()
    assert runner.paint(job.recipe.model) == "done"
    assert painter.painted and job_store.jobs.find(job.id).picture == first == memory.index.get(first.key)


def test_a_lost_claim_changes_nothing(runner, job_store, painter, job):
    def steal(recipe, on_step, init_image=None, turn=None):
        job_store.connection.redis.hset(
            job_store.connection.prefix + "painting:" + job.painting, "token", "another worker"
        )
        return type(painter).__call__(painter, recipe, on_step)

    runner.painters = lambda name: type("Robbed", (), {"device": "test", "__call__": staticmethod(steal)})()
    assert runner.paint(job.recipe.model) == "lost"
    assert job_store.jobs.find(job.id).state is State.RUNNING


def test_a_cancelled_painting_stops_at_the_next_step(runner, job_store, painter, memory, job):
    painter.go_on.clear()
    thread = threading.Thread(target=runner.paint, args=(job.recipe.model,))
    thread.start()
    while job_store.jobs.find(job.id).state is not State.RUNNING:
        pass
    job_store.submissions.cancel(job.id)
    painter.go_on.set()
    thread.join(10)
    assert job_store.jobs.find(job.id).state is State.CANCELLED
    assert painter.painted == [] and list(memory.store.names()) == []


def test_a_painting_that_does_not_fit_into_memory_is_retried_and_fails_in_the_end(
    runner, job_store, painter, job, recipe
):
    painter.fault = TooLarge(recipe, "cuda:0 bfloat16", RuntimeError("CUDA out of memory"))
    for _ in range(MAX_ATTEMPTS - 1):
        assert runner.paint(job.recipe.model) == "left"
        assert job_store.jobs.find(job.id).state is State.RUNNING
        job_store.connection.redis.zadd(job_store.connection.prefix + "leases", {job.painting: 0})
        assert job_store.claims.requeue_expired() == [job.recipe.model]
    assert runner.paint(job.recipe.model) == "failed"
    assert "64 × 64 of stickers does not fit into the memory of cuda:0" in job_store.jobs.find(job.id).error


def expire_lease(job_store, job):
    """Let the job's lease run out and requeue its painting."""
    job_store.connection.redis.zadd(job_store.connection.prefix + "leases", {job.painting: 0})
    assert job_store.claims.requeue_expired() == [job.recipe.model]


def test_after_an_unexpected_fault_a_painting_is_retried_and_then_fails_with_it(
    runner, job_store, painter, job, caplog
):
    painter.fault = RuntimeError("out of ochre")
    for attempt in (1, 2):
        assert runner.paint(job.recipe.model) == "left"
        current = job_store.jobs.find(job.id)
        assert (
            current.state is State.RUNNING
            and f"attempt {attempt} failed and will be repeated soon: RuntimeError: out of ochre" in current.message
        )
        expire_lease(job_store, job)
    assert runner.paint(job.recipe.model) == "failed"
    assert job_store.jobs.find(job.id).error == "RuntimeError: out of ochre" and "Traceback" in caplog.text
    assert not runner.closing.is_set()  # the painting itself may be at fault


def test_a_passing_fault_loses_no_picture(runner, job_store, painter, job):
    painter.fault = RuntimeError("a hiccup")
    assert runner.paint(job.recipe.model) == "left"
    painter.fault = None
    expire_lease(job_store, job)
    assert runner.paint(job.recipe.model) == "done"


def test_the_error_names_an_earlier_fault_even_if_later_workers_die(runner, job_store, painter, job):
    painter.fault = RuntimeError("out of ochre")
    runner.paint(job.recipe.model)
    for _ in range(MAX_ATTEMPTS - 1):
        expire_lease(job_store, job)
        assert job_store.claims.claim(job.recipe.model)
    expire_lease(job_store, job)
    assert runner.paint(job.recipe.model) == "failed"
    assert "died 3 times" in job_store.jobs.find(job.id).error and "out of ochre" in job_store.jobs.find(job.id).error


def test_a_painting_that_kills_its_workers_fails_in_the_end(runner, job_store, painter, memory, job):
    memory.painting_started(job.painting, job.recipe, job.scope)
    for _ in range(MAX_ATTEMPTS):
        assert job_store.claims.claim(job.recipe.model)
        expire_lease(job_store, job)
    assert runner.paint(job.recipe.model) == "failed" and runner.ended["failed"] == 1 and painter.painted == []
    assert job_store.jobs.find(job.id).error == "the worker died 3 times while painting this picture"
    assert memory.paintings_under_way() == []


def open_jobs(job_store, recipe, *prompts):
    """Submit a job for each prompt."""
    return [
        job_store.submissions.open_job(replace(recipe, prompt=prompt, steps=4), reason="", scope="shared")
        for prompt in prompts
    ]


def test_eight_slots_paint_a_suspect_alone_and_then_the_rest_together(runner, job_store, painter, recipe, redis_url):
    """A worker died with a suspect. Another one with eight slots first ends what it paints."""
    [suspect] = open_jobs(job_store, recipe, "suspect")
    dead_worker = open_job_store(redis_url)
    dead_worker.claims.claim(recipe.model)
    dead_worker.connection.close()
    rest = open_jobs(job_store, recipe, *(f"fox {number}" for number in range(12)))
    together, lock = [], threading.Lock()

    def paint(recipe, on_step, init_image=None, turn=None):
        for step in range(1, recipe.steps + 1):
            time.sleep(0.01)
            with lock:
                together.append([claim.recipe.prompt for claim in list(runner.claims.values())])
            if recipe.prompt == "fox 0" and step == 2:
                expire_lease(job_store, suspect)
            on_step(Progress(step))
        return painter(recipe, lambda progress: None)

    runner.painters = lambda name: type("P", (), {"device": "t", "metered": False, "__call__": staticmethod(paint)})()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(runner.handle_message, [recipe.model] * 8))
    assert all(job_store.jobs.find(job.id).state is State.DONE for job in (suspect, *rest))
    assert len(painter.painted) == 13 and max(map(len, together)) > 1 and runner.held_back == 0
    assert all(prompts == ["suspect"] for prompts in together if "suspect" in prompts)


def test_a_closing_worker_does_not_wait_for_a_suspect(runner, job_store, painter, recipe, monkeypatch):
    monkeypatch.setattr("worker.paint.OCCUPIED_SECONDS", 0.01)
    suspect, beside = open_jobs(job_store, recipe, "suspect", "beside")
    job_store.claims.claim(recipe.model)
    job_store.claims.claim(recipe.model)
    expire_lease(job_store, suspect)
    thread = threading.Thread(target=runner.handle_message, args=(recipe.model,))
    thread.start()
    assert wait_for(lambda: runner.held_back == 1)
    runner.closing.set()
    thread.join(5)
    assert not thread.is_alive() and runner.unserved == [recipe.model] and painter.painted == []
    assert job_store.jobs.find(beside.id).state is State.RUNNING


def test_a_worker_on_which_every_painting_fails_ends(runner, job_store, painter, recipe):
    """Three paintings in a row fail; the fourth is left to other workers, and no job fails because of it."""
    jobs = [
        job_store.submissions.open_job(replace(recipe, seed=seed), reason="", scope="shared") for seed in range(5)
    ]
    painter.fault = RuntimeError("CUDA error: an illegal memory access was encountered")
    assert runner.handle_message(recipe.model) == "left, left, left"
    assert runner.closing.is_set() and runner.unserved == [recipe.model]
    assert not any(job_store.jobs.find(job.id).state.final for job in jobs)


def test_a_success_in_between_shows_that_the_worker_is_sound(runner, job_store, painter, recipe):
    for seed in range(6):
        job_store.submissions.open_job(replace(recipe, seed=seed), reason="", scope="shared")
        painter.fault = None if seed == 2 else RuntimeError("a fault")
        runner.paint(recipe.model)
        assert runner.closing.is_set() == (seed == 5)


def test_a_missing_model_becomes_the_jobs_error(runner, job_store, job):
    def no_painter(name):
        raise BadSetup("the model stickers is not here")

    runner.painters = no_painter
    assert runner.paint(job.recipe.model) == "failed"
    assert job_store.jobs.find(job.id).error == "the model stickers is not here"


def test_without_an_index_the_picture_is_stored_and_put_on_the_backlog(runner, job_store, memory, job, unused_port):
    memory.index = open_index(f"http://127.0.0.1:{unused_port}", "pictures", memory.embedder.dimension)
    assert runner.paint(job.recipe.model) == "done"
    done = job_store.jobs.find(job.id)
    assert done.state is State.DONE and memory.has(done.picture.key)
    assert [entry.key for entry in job_store.backlog.unindexed()] == [done.picture.key]


def test_nothing_is_lost_when_the_store_comes_back(runner, job_store, memory, job, monkeypatch):
    monkeypatch.setattr("worker.paint.STORE_WAIT", (0.001, 0.002))
    real, calls = memory.store.put, []

    def flaky(name, data, content_type="image/png"):
        calls.append(name)
        if len(calls) < 4:
            raise Unavailable("the store is down")
        return real(name, data, content_type)

    monkeypatch.setattr(memory.store, "put", flaky)
    assert runner.paint(job.recipe.model) == "done"
    assert len(calls) == 4 and job_store.jobs.find(job.id).state is State.DONE


@pytest.mark.parametrize("operation", ["exists", "put"])
def test_a_painting_waits_for_a_store_that_is_down_and_does_not_fail(
    runner, job_store, memory, painter, job, operation, monkeypatch
):
    """It may wait longer than any lease. The job says that it waits, and the picture is not painted again."""
    monkeypatch.setattr("worker.paint.STORE_WAIT", (0.001, 0.002))
    is_down, calls, waiting = threading.Event(), [], []
    is_down.set()
    real = getattr(memory.store, operation)

    def method(*arguments, **options):
        if not is_down.is_set():
            return real(*arguments, **options)
        calls.append(arguments)
        if len(calls) > 30:
            waiting.append(job_store.jobs.find(job.id))
            is_down.clear()
        raise Unavailable("the store is down")

    monkeypatch.setattr(memory.store, operation, method)
    assert runner.paint(job.recipe.model) == "done" and len(painter.painted) == 1
    assert waiting[0].state is State.RUNNING and "waiting for the picture store" in waiting[0].message
    assert job_store.jobs.find(job.id).state is State.DONE and memory.has(job_store.jobs.find(job.id).picture.key)


def test_a_painting_that_waits_for_the_store_can_be_cancelled(runner, job_store, memory, job, monkeypatch):
    monkeypatch.setattr("worker.paint.STORE_WAIT", (0.001, 0.002))

    def down(*_, **__):
        job_store.submissions.cancel(job.id)
        raise Unavailable("the store is down")

    monkeypatch.setattr(memory.store, "put", down)
    assert runner.paint(job.recipe.model) == "cancel" and job_store.jobs.find(job.id).state is State.CANCELLED


def fail_at_first(calls, times, real):
    """The real method, except that its first `times` calls fail."""

    def method(*arguments):
        calls.append(arguments)
        if len(calls) <= times:
            raise Unavailable("the queue does not answer")
        return real(*arguments)

    return method


def test_a_painting_goes_on_when_some_steps_cannot_be_reported(runner, job_store, job, monkeypatch):
    monkeypatch.setattr(job_store.progress, "report_step", fail_at_first([], 2, job_store.progress.report_step))
    assert runner.paint(job.recipe.model) == "done"
    assert job_store.jobs.find(job.id).state is State.DONE


@pytest.mark.parametrize("colour", ["black", "white", "#7f7f7f"])
def test_a_flat_picture_fails_the_job_and_nothing_is_kept(runner, job_store, memory, job, colour):
    runner.painters = lambda name: flat_painter(colour)
    assert runner.paint(job.recipe.model) == "failed"
    failed = job_store.jobs.find(job.id)
    assert failed.state is State.FAILED and "stickers painted nothing but the colour #" in failed.error
    assert list(memory.store.names()) == [] and memory.index.count() == 0 and job_store.backlog.unindexed() == []


def test_a_flat_picture_is_kept_if_the_prompt_asks_for_it(runner, job_store, recipe):
    runner.painters = lambda name: flat_painter("white")
    [job] = open_jobs(job_store, recipe, "a plain white background")
    assert runner.paint(recipe.model) == "done" and job_store.jobs.find(job.id).picture


def flat_painter(colour):
    """Return a painter of one colour."""

    def paint(recipe, on_step, init_image=None, turn=None):
        return Image.new("RGB", (recipe.width, recipe.height), colour)

    return type("Flat", (), {"device": "t", "metered": False, "__call__": staticmethod(paint)})()


def test_previews_come_between_steps_and_not_after_the_last(runner, job_store, job, monkeypatch):
    monkeypatch.setattr("worker.paint.PREVIEW_SECONDS", 0.0)
    drawn, previews = [], []

    def painter(recipe, on_step, init_image=None, turn=None):
        for step in range(1, recipe.steps + 1):
            on_step(Progress(step, 1.0, 2.0 * step, lambda: drawn.append(1) or Image.new("RGB", (8, 8), "red")))
            previews.append(job_store.jobs.preview(job.id))
        return two_colours(recipe)

    painter.device, painter.metered = "test", True
    runner.painters = lambda name: painter
    assert runner.paint(job.recipe.model) == "done"
    assert len(drawn) == job.recipe.steps - 1
    shown = Image.open(io.BytesIO(previews[0]))
    done = job_store.jobs.find(job.id).picture
    assert (done.joules, done.metered) == (2.0 * job.recipe.steps, True) and runner.state()["joules"] == done.joules
    assert (shown.format, shown.size) == ("WEBP", (8, 8)) and shown.getpixel((4, 4))[0] > 200


def test_no_job_fails_when_the_queue_is_down_at_the_end(runner, painter, job_store, job, monkeypatch):
    monkeypatch.setattr("jobs.store.claims.LEASE_SECONDS", -1.0)
    monkeypatch.setattr(job_store.progress, "complete", fail_at_first([], 1, job_store.progress.complete))
    assert runner.paint(job.recipe.model) == "left"
    assert job_store.jobs.find(job.id).state is State.RUNNING and job_store.claims.requeue_expired() == [
        job.recipe.model
    ]
    assert runner.paint(job.recipe.model) == "done"
    assert len(painter.painted) == 1 and job_store.jobs.find(job.id).state is State.DONE


def test_a_worker_that_closes_while_the_store_is_down_releases_its_painting(
    runner, job_store, memory, job, monkeypatch
):
    def down(*_, **__):
        runner.closing.set()
        raise Unavailable("the store is down")

    monkeypatch.setattr(memory.store, "put", down)
    assert runner.paint(job.recipe.model) == "hand back" and job_store.jobs.find(job.id).state is State.QUEUED


def test_a_closing_worker_releases_its_painting(runner, job_store, painter, job):
    painter.go_on.clear()
    results = []
    thread = threading.Thread(target=lambda: results.append(runner.paint(job.recipe.model)))
    thread.start()
    while job_store.jobs.find(job.id).state is not State.RUNNING:
        pass
    runner.closing.set()
    painter.go_on.set()
    thread.join(10)
    assert results == ["hand back"] and job_store.jobs.find(job.id).state is State.QUEUED
    assert runner.handle_message(job.recipe.model) == "" and runner.unserved == [job.recipe.model]
    runner.closing.clear()
    assert runner.handle_message(job.recipe.model) == "done"


def test_one_message_is_enough_for_all_waiting_paintings(runner, job_store, recipe, painter):
    for number, model in enumerate(("stickers", "other", "not ours", "stickers")):
        job_store.submissions.open_job(
            replace(recipe, prompt=f"fox {number}", steps=1, model=model), reason="", scope="shared"
        )
    runner.models = ["stickers", "other"]
    assert runner.handle_message("stickers") == "done, done, done"
    assert painter.painted == ["fox 0", "fox 1", "fox 3"] and job_store.statistics.count_waiting("not ours") == 1
    assert runner.handle_message("stickers") == ""


def test_a_picture_and_its_job_keep_the_notes_of_its_painter(runner, job_store, job):
    def painter(recipe, on_step, init_image=None, turn=None):
        for step in range(1, recipe.steps + 1):
            on_step(Progress(step, notes=("it leaves out the whale",)))
        return two_colours(recipe)

    painter.device, painter.metered = "test", True
    runner.painters = lambda name: painter
    assert runner.paint(job.recipe.model) == "done"
    done = job_store.jobs.find(job.id)
    assert done.notes == done.picture.notes == ("it leaves out the whale",)
    metadata = job_to_generation(done, img="")["gen_metadata"]
    assert [item["ref"] for item in metadata][1:] == ["it leaves out the whale"]
