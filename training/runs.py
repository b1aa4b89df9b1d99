"""Training runs by name, here or through the queue: submit, run, look. Imports a run only when it is to begin.

A training is recorded in Redis before its message is sent. Whoever runs it holds a lease; a message that is delivered
again while the lease holds is left, and one whose runner died is sent again by any training worker. A run that begins
again goes on at its last checkpoint, so nothing else is needed. Knows Redis through the board.
"""

import importlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.job import State
from jobs.store.connection import Connection, redis_errors
from memo import BadSetup, MemoError, Unavailable, now
from training import PACKING, RUNS, OnRow

from .knobs import from_json

log = logging.getLogger(__name__)

TRAIN = "memoaized.train"  # the task
TRAIN_QUEUE = "train"
PACKED = "packed.json"  # in a run's folder: which model it became
LEASE_SECONDS = 30.0
PERIOD = 5.0  # seconds between renewals of a lease
RESEND_SECONDS = 60
MOST_ATTEMPTS = 3  # without a single row of losses between them
KEPT_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What to train, its knobs as JSON has them, and as which model to pack it (the knobs of `ship`), if any."""

    run: str
    knobs: Mapping[str, Any]
    pack: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """How many rows' steps there are in all; a search counts trials."""
        return int(self.knobs.get("trials") or self.knobs.get("steps") or 0)


def perform(request: TrainingRequest, on_row: OnRow) -> Path:
    """Train from the last checkpoint to the end and pack; returns the run's or the model's folder."""
    if request.pack:
        check_place(Path(request.pack["out"]), Path(request.knobs["out"]))
    run = load(RUNS[request.run])
    folder: Path = run.train(from_json(run.Knobs, request.knobs), on_row=on_row)
    if not request.pack:
        return folder
    shipping = load(PACKING)
    (folder / PACKED).write_text(json.dumps({"model": request.pack["out"]}))
    model: Path = shipping.ship(from_json(shipping.Knobs, request.pack))
    return model


def check_place(model: Path, run: Path) -> None:
    """Raise BadSetup when a model of this name is there and was not packed from this run."""
    packed = run / PACKED
    own = packed.exists() and json.loads(packed.read_text())["model"] == str(model)
    if model.exists() and not own:
        raise BadSetup(f"there is a model {model.name} in {model.parent} already; choose another name")


def load(module: str) -> Any:
    """Import a run's module; raises BadSetup naming what to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BadSetup(f"training needs {error.name}: pip install 'memoaized[gpu,train]'") from error


class Pace:
    """How long the rest will take, from the rows heard so far."""

    def __init__(self, steps: int) -> None:
        self.steps, self.begun = steps, time.monotonic()
        self.first: tuple[float, int] | None = None

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.begun

    def left(self, step: int) -> float | None:
        """Seconds until the last step; None at the first row."""
        moment = time.monotonic()
        if self.first is None:
            self.first = moment, step
        since, begin = self.first
        return (moment - since) / (step - begin) * max(0, self.steps - step) if step > begin else None


@dataclass(frozen=True, slots=True)
class Training:
    """A snapshot of one training. Times are seconds; `left` is an estimate, None before the second row of losses."""

    run: str
    state: State
    step: int = 0
    steps: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0  # since it began or went on
    left: float | None = None
    error: str = ""
    result: str = ""

    def line(self) -> str:
        """For people."""
        parts = [f"{self.run} {self.state}"]
        if self.steps:
            parts.append(f"step {self.step} of {self.steps}")
        parts += [f"{name} {value:.5f}" for name, value in self.losses.items()]
        if self.left is not None and not self.state.final:
            parts.append(f"{self.left:.0f} s left")
        return ", ".join(part for part in (*parts, self.error, self.result) if part)


class Trainings:
    """The records, on the board's Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix

    def key(self, training: str, part: str = "") -> str:
        """Where a record, its lease, or the note that its message was sent again is."""
        return f"{self.prefix}training:{training}{part}"

    def open(self, request: TrainingRequest) -> str:
        """Record a training that waits; its id."""
        training = secrets.token_hex(16)
        facts = {"run": request.run, "knobs": json.dumps(dict(request.knobs)), "pack": json.dumps(dict(request.pack))}
        with redis_errors():
            self.redis.sadd(self.prefix + "trainings", training)
        self.write(training, **facts, state=State.QUEUED, steps=request.steps, created=now())
        return training

    def look(self, training: str) -> Training | None:
        """A snapshot, or None for an id that was never given or has expired; one without a runner is queued."""
        with redis_errors():
            facts: dict[str, str] = self.redis.hgetall(self.key(training))
            held = self.redis.exists(self.key(training, ":lease"))
        if not facts:
            return None
        state = State(facts["state"])
        return snapshot(facts, State.QUEUED if state is State.RUNNING and not held else state)

    def write(self, training: str, **facts: Any) -> None:
        """Change the record, and let it live on."""
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hset(self.key(training), mapping=facts)
            pipe.expire(self.key(training), KEPT_SECONDS)
            if "state" in facts and facts["state"].final:
                pipe.srem(self.prefix + "trainings", training)
            pipe.execute()

    def claim(self, training: str) -> tuple[TrainingRequest, str] | None:
        """The order and the lease's token; None when it is finished, unknown or another's."""
        token = secrets.token_hex(16)
        with redis_errors():
            facts: dict[str, str] = self.redis.hgetall(self.key(training))
            if not facts or State(facts["state"]).final:
                return None
            if not self.redis.set(self.key(training, ":lease"), token, nx=True, px=int(LEASE_SECONDS * 1000)):
                return None
            attempts = self.redis.hincrby(self.key(training), "attempts", 1)
        if attempts > MOST_ATTEMPTS:
            said = f"its runner died {MOST_ATTEMPTS} times before a row of losses"
            self.write(training, state=State.FAILED, error=said)
            return None
        self.write(training, state=State.RUNNING)
        return TrainingRequest(facts["run"], json.loads(facts["knobs"]), json.loads(facts["pack"])), token

    def renew(self, training: str, token: str) -> bool:
        """Prolong the lease; False when it is another's."""
        key = self.key(training, ":lease")
        with redis_errors():
            if self.redis.get(key) not in (token, None):
                return False
            self.redis.set(key, token, px=int(LEASE_SECONDS * 1000))
        return True

    def release(self, training: str, token: str) -> None:
        """Give the lease back."""
        with redis_errors():
            if self.redis.get(self.key(training, ":lease")) == token:
                self.redis.delete(self.key(training, ":lease"))

    def orphans(self) -> list[str]:
        """Trainings that began and that nobody runs, each once a minute at most: their runner died."""
        with redis_errors():
            return [
                training
                for training in sorted(self.redis.smembers(self.prefix + "trainings"))
                if self.redis.hget(self.key(training), "state") == State.RUNNING
                and not self.redis.exists(self.key(training, ":lease"))
                and self.redis.set(self.key(training, ":sent"), "1", nx=True, ex=RESEND_SECONDS)
            ]


def snapshot(facts: Mapping[str, str], state: State) -> Training:
    """What the record says."""
    left = facts.get("left")
    return Training(
        run=facts["run"],
        state=state,
        step=int(facts.get("step", 0)),
        steps=int(facts.get("steps", 0)),
        losses=json.loads(facts.get("losses", "{}")),
        seconds=float(facts.get("seconds", 0)),
        left=float(left) if left else None,
        error=facts.get("error", ""),
        result=facts.get("result", ""),
    )


def submit(trainings: Trainings, request: TrainingRequest, send: Callable[[str], None]) -> str:
    """Record and send; the id. What cannot be sent is recorded as failed."""
    training = trainings.open(request)
    try:
        send(training)
    except Exception as error:
        trainings.write(training, state=State.FAILED, error=f"not sent: {error}")
        raise
    return training


def send_training(celery: Any, training: str) -> None:
    """Put its message into the queue of training workers. Twice does no harm."""
    celery.send_task(TRAIN, [training], task_id=training, queue=TRAIN_QUEUE)


class Runner:
    """What a training worker does with a message."""

    def __init__(self, trainings: Trainings) -> None:
        self.trainings = trainings

    def run(self, training: str) -> str:
        """Train and record how it ends; in a word what became of it. Raises what is nobody's wrong setting."""
        if (claim := self.trainings.claim(training)) is None:
            return "left"
        request, token = claim
        with self.leased(training, token):
            try:
                result = perform(request, self.reporter(training, Pace(request.steps)))
            except MemoError as error:
                self.trainings.write(training, state=State.FAILED, error=str(error))
                return "failed"
            except Exception as error:
                self.trainings.write(training, state=State.FAILED, error=f"{type(error).__name__}: {error}")
                raise
            self.trainings.write(training, state=State.DONE, step=request.steps, result=str(result))
        return "done"

    def reporter(self, training: str, pace: Pace) -> OnRow:
        """Hears rows of losses and writes how far it is; an outage of the queue stops no training."""

        def hear(step: int, losses: Mapping[str, float]) -> None:
            left = pace.left(step)
            facts = {"step": step, "losses": json.dumps(dict(losses)), "seconds": pace.seconds, "attempts": 0}
            try:
                self.trainings.write(training, **facts, left="" if left is None else left)
            except Unavailable as error:
                log.warning("step %d of %s is not reported: %s", step, training, error)

        return hear

    @contextmanager
    def leased(self, training: str, token: str) -> Iterator[None]:
        """Keep the lease while the block runs; a killed process leaves it to run out."""
        ended = threading.Event()
        thread = threading.Thread(target=self.keep, args=(training, token, ended), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.trainings.release(training, token)

    def keep(self, training: str, token: str, ended: threading.Event) -> None:
        """Renew until the end."""
        while not ended.wait(PERIOD):
            try:
                if not self.trainings.renew(training, token):
                    log.error("training %s is another's now; both write the same folder", training)
            except Unavailable as error:
                log.warning("the lease of %s is not renewed: %s", training, error)


class Watch:
    """A background thread of a training worker that sends the messages of orphaned trainings again."""

    def __init__(self, trainings: Trainings, send: Callable[[str], None]) -> None:
        self.trainings, self.send = trainings, send
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin; the first round is at once."""
        self.thread.start()

    def stop(self) -> None:
        """End after the current round."""
        self.stopping.set()
        self.thread.join(timeout=PERIOD)

    def run(self) -> None:
        """Rounds until stopped; an outage is waited for."""
        while True:
            try:
                for training in self.trainings.orphans():
                    log.warning("training %s lost its runner; back into the queue", training)
                    self.send(training)
            except Unavailable as error:
                log.warning("%s", error)
            except Exception:  # Celery's own, when the broker is away, say; orphans must be seen in the next round
                log.exception("a round went wrong")
            if self.stopping.wait(PERIOD):
                return
