"""Training runs by name, in this process or through the queue: submit, run, follow.

A training is recorded in Redis before its message is sent. The worker that runs it holds a lease. A message that
arrives again during the lease is skipped; if a worker dies, any training worker sends the message again. A restarted
run continues from its last checkpoint, so no other state is needed. The module of a run is imported when it starts.
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

from disk.durable_files import write_durably
from jobs.job import State
from jobs.store.connection import Connection, redis_errors
from memo import BadSetup, MemoError, Unavailable, now
from training import PACKING, RUNS, OnRow

from .knobs import from_json

log = logging.getLogger(__name__)

TRAIN_TASK = "memoaized.train"
TRAIN_QUEUE = "train"
PACKED = "packed.json"  # in a run folder: the model that was packed from it
LEASE_SECONDS = 30.0
RENEW_SECONDS = 5.0  # seconds between renewals of a lease
RESEND_SECONDS = 60  # shortest time between two messages of an orphaned training
MAX_ATTEMPTS = 3  # attempts in a row that write no row of losses
RECORD_SECONDS = 30 * 24 * 3600  # how long a record is kept after its last change

# ARGV: prefix (unused), key of a lease, token, milliseconds. Returns 1, or 0 if another token holds the lease.
RENEW = """
local holder = redis.call('GET', ARGV[2])
if holder and holder ~= ARGV[3] then return 0 end
redis.call('SET', ARGV[2], ARGV[3], 'PX', ARGV[4])
return 1
"""

# ARGV: prefix (unused), key of a lease, token.
RELEASE = """
if redis.call('GET', ARGV[2]) == ARGV[3] then redis.call('DEL', ARGV[2]) end
"""


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """The name of a run, its knobs as JSON values, and the knobs of `packing` if a model is to be packed from it."""

    run: str
    knobs: Mapping[str, Any]
    pack: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Number of steps of the run; a search counts trials."""
        return int(self.knobs.get("trials") or self.knobs.get("steps") or 0)


def run_training(request: TrainingRequest, on_row: OnRow) -> Path:
    """Train from the last checkpoint to the end, then pack if requested.

    Returns the folder of the packed model, else that of the run. Raises BadSetup if the run cannot start, or if the
    model's name is taken.
    """
    if request.pack:
        check_model_name(Path(request.pack["out"]), Path(request.knobs["out"]))
    run = load_module(RUNS[request.run])
    folder: Path = run.train(from_json(run.Knobs, request.knobs), on_row=on_row)
    if not request.pack:
        return folder
    packing = load_module(PACKING)
    write_durably(folder / PACKED, json.dumps({"model": request.pack["out"]}))
    model: Path = packing.pack_model(from_json(packing.Knobs, request.pack))
    return model


def check_model_name(model: Path, run: Path) -> None:
    """Raise BadSetup if a model of this name exists and was not packed from this run."""
    packed = run / PACKED
    packed_from_run = packed.exists() and json.loads(packed.read_text())["model"] == str(model)
    if model.exists() and not packed_from_run:
        raise BadSetup(f"there is a model {model.name} in {model.parent} already; choose another name")


def load_module(module: str) -> Any:
    """Import the module of a run; raises BadSetup with the command that installs a missing package."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BadSetup(f"training needs {error.name}: pip install 'memoaized[gpu,train]'") from error


class TimeEstimate:
    """Estimates the remaining time of a run from its rows of losses."""

    def __init__(self, steps: int) -> None:
        self.steps, self.started = steps, time.monotonic()
        self.first_row: tuple[float, int] | None = None  # its moment and step

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def seconds_left(self, step: int) -> float | None:
        """Estimated seconds until the last step; None at the first row."""
        moment = time.monotonic()
        if self.first_row is None:
            self.first_row = moment, step
        first_moment, first_step = self.first_row
        if step <= first_step:
            return None
        return (moment - first_moment) / (step - first_step) * max(0, self.steps - step)


@dataclass(frozen=True, slots=True)
class Training:
    """A snapshot of one training; `seconds_left` is an estimate, None before the second row of losses."""

    run: str
    state: State
    step: int = 0
    steps: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0  # since it started or resumed
    seconds_left: float | None = None
    error: str = ""
    result: str = ""

    def summary(self) -> str:
        """One line of text for people: "vae running, step 100 of 4000, loss 0.10000, 300 s left"."""
        parts = [f"{self.run} {self.state}"]
        if self.steps:
            parts.append(f"step {self.step} of {self.steps}")
        parts += [f"{name} {value:.5f}" for name, value in self.losses.items()]
        if self.seconds_left is not None and not self.state.final:
            parts.append(f"{self.seconds_left:.0f} s left")
        return ", ".join(part for part in (*parts, self.error, self.result) if part)


class TrainingStore:
    """Records of trainings in the Redis of the job store. Methods raise Unavailable when it does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix
        self.renew_lease, self.release_lease = connection.script(RENEW), connection.script(RELEASE)

    def key(self, training: str, suffix: str = "") -> str:
        """The Redis key of a record, of its lease (":lease"), or of the mark that it was sent again (":sent")."""
        return f"{self.prefix}training:{training}{suffix}"

    def create(self, request: TrainingRequest) -> str:
        """Record a queued training; returns its id."""
        training = secrets.token_hex(16)
        knobs, pack = json.dumps(dict(request.knobs)), json.dumps(dict(request.pack))
        with redis_errors():
            self.redis.sadd(self.prefix + "trainings", training)
        fields = {"run": request.run, "knobs": knobs, "pack": pack, "steps": request.steps, "created": now()}
        self.update(training, **fields, state=State.QUEUED)
        return training

    def find(self, training: str) -> Training | None:
        """A snapshot; None if the id is unknown or expired. A training that runs without a lease counts as queued."""
        with redis_errors():
            record: dict[str, str] = self.redis.hgetall(self.key(training))
            leased = self.redis.exists(self.key(training, ":lease"))
        if not record:
            return None
        state = State(record["state"])
        return snapshot(record, State.QUEUED if state is State.RUNNING and not leased else state)

    def update(self, training: str, **fields: Any) -> None:
        """Change fields of the record and renew its expiry."""
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hset(self.key(training), mapping=fields)
            pipe.expire(self.key(training), RECORD_SECONDS)
            if "state" in fields and fields["state"].final:
                pipe.srem(self.prefix + "trainings", training)
            pipe.execute()

    def claim(self, training: str) -> tuple[TrainingRequest, str] | None:
        """Take the lease; returns (request, token), or None if the training is final, unknown, leased or given up."""
        token = secrets.token_hex(16)
        with redis_errors():
            record: dict[str, str] = self.redis.hgetall(self.key(training))
            if not record or State(record["state"]).final:
                return None
            if not self.redis.set(self.key(training, ":lease"), token, nx=True, px=int(LEASE_SECONDS * 1000)):
                return None
            attempts = self.redis.hincrby(self.key(training), "attempts", 1)
        if attempts > MAX_ATTEMPTS:
            error = f"its worker died {MAX_ATTEMPTS} times without writing a row of losses"
            self.update(training, state=State.FAILED, error=error)
            return None
        self.update(training, state=State.RUNNING)
        return TrainingRequest(record["run"], json.loads(record["knobs"]), json.loads(record["pack"])), token

    def renew(self, training: str, token: str) -> bool:
        """Extend the lease, or take it again if it has expired; False if another worker holds it."""
        return bool(self.renew_lease(self.key(training, ":lease"), token, int(LEASE_SECONDS * 1000)))

    def release(self, training: str, token: str) -> None:
        """Release the lease, if this token holds it."""
        self.release_lease(self.key(training, ":lease"), token)

    def find_orphans(self) -> list[str]:
        """Trainings whose worker died: running, but without a lease. Each is returned at most once a minute."""
        with redis_errors():
            return [
                training
                for training in sorted(self.redis.smembers(self.prefix + "trainings"))
                if self.redis.hget(self.key(training), "state") == State.RUNNING
                and not self.redis.exists(self.key(training, ":lease"))
                and self.redis.set(self.key(training, ":sent"), "1", nx=True, ex=RESEND_SECONDS)
            ]


def snapshot(record: Mapping[str, str], state: State) -> Training:
    """A Training with the fields of a record."""
    seconds_left = record.get("seconds_left")
    return Training(
        run=record["run"],
        state=state,
        step=int(record.get("step", 0)),
        steps=int(record.get("steps", 0)),
        losses=json.loads(record.get("losses", "{}")),
        seconds=float(record.get("seconds", 0)),
        seconds_left=float(seconds_left) if seconds_left else None,
        error=record.get("error", ""),
        result=record.get("result", ""),
    )


def submit(trainings: TrainingStore, request: TrainingRequest, send: Callable[[str], None]) -> str:
    """Record and send a training; returns its id. If sending fails, records the failure and raises the error."""
    training = trainings.create(request)
    try:
        send(training)
    except Exception as error:  # whatever it is: a training without a message would stay queued for ever
        trainings.update(training, state=State.FAILED, error=f"not sent: {error}")
        raise
    return training


def send_training(celery: Any, training: str) -> None:
    """Send the message of a training to the training workers; a second message does no harm."""
    celery.send_task(TRAIN_TASK, [training], task_id=training, queue=TRAIN_QUEUE)


class TrainingRunner:
    """Runs the training of a message in a training worker."""

    def __init__(self, trainings: TrainingStore) -> None:
        self.trainings = trainings

    def run(self, training: str) -> str:
        """Train and record the result; returns "done", "failed" (a user error) or "skipped". Raises other errors."""
        if (claim := self.trainings.claim(training)) is None:
            return "skipped"
        request, token = claim
        with self.hold_lease(training, token):
            try:
                result = run_training(request, self.report_to(training, TimeEstimate(request.steps)))
            except MemoError as error:
                self.trainings.update(training, state=State.FAILED, error=str(error))
                return "failed"
            except Exception as error:  # whatever it is: those who follow the training must see that it failed
                self.trainings.update(training, state=State.FAILED, error=f"{type(error).__name__}: {error}")
                raise
            self.trainings.update(training, state=State.DONE, step=request.steps, result=str(result))
        return "done"

    def report_to(self, training: str, estimate: TimeEstimate) -> OnRow:
        """Return a function that records each row of losses; an outage of Redis does not stop the training."""

        def report(step: int, losses: Mapping[str, float]) -> None:
            seconds_left = estimate.seconds_left(step)
            fields = {"step": step, "losses": json.dumps(dict(losses)), "seconds": estimate.seconds, "attempts": 0}
            try:
                self.trainings.update(training, **fields, seconds_left="" if seconds_left is None else seconds_left)
            except Unavailable as error:
                log.warning("could not record step %d of training %s: %s", step, training, error)

        return report

    @contextmanager
    def hold_lease(self, training: str, token: str) -> Iterator[None]:
        """Renew the lease while the block runs; if the process is killed, the lease expires."""
        ended = threading.Event()
        thread = threading.Thread(target=self.renew_until, args=(training, token, ended), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.trainings.release(training, token)

    def renew_until(self, training: str, token: str, ended: threading.Event) -> None:
        """Renew the lease until `ended` is set."""
        while not ended.wait(RENEW_SECONDS):
            try:
                if not self.trainings.renew(training, token):
                    log.error("another worker has taken training %s; both now write to the same folder", training)
            except Unavailable as error:
                log.warning("could not renew the lease of training %s: %s", training, error)


class OrphanRequeuer:
    """A background thread of a training worker that requeues trainings whose worker died."""

    def __init__(self, trainings: TrainingStore, send: Callable[[str], None]) -> None:
        self.trainings, self.send = trainings, send
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, name="requeuer", daemon=True)

    def start(self) -> None:
        """Start the thread; its first round begins at once."""
        self.thread.start()

    def stop(self) -> None:
        """Stop after the current round."""
        self.stopping.set()
        self.thread.join(timeout=RENEW_SECONDS)

    def run(self) -> None:
        """Requeue orphaned trainings every few seconds until stopped; errors are logged."""
        while True:
            try:
                for training in self.trainings.find_orphans():
                    log.warning("the worker of training %s died; putting it back into the queue", training)
                    self.send(training)
            except Unavailable as error:
                log.warning("could not look for orphaned trainings: %s", error)
            except Exception:  # for example Celery's own when the broker is down; the next round must still run
                log.exception("could not requeue orphaned trainings")
            if self.stopping.wait(RENEW_SECONDS):
                return
