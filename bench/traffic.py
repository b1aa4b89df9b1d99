"""Replays recorded requests in simulated time, and counts the painting steps that memory saves.

A trace is a gzip file of tab-separated lines with the columns `caller` and `prompt`, in the order in which the
requests arrived. The web server's own code decides on each request (re-rolls, memory, judge, near starts, joining),
with a real Redis, index and store. Only the painting is simulated, and the pictures are empty. If a caller repeats a
prompt after receiving its picture, however long ago, that counts as a request for another one.

Every trace is replayed twice, with `auto` and with `near` as the server's policy. The bench also counts how often a
caller who repeats a prompt gets a picture that they already have. `--read N` writes N random answers whose words
differ from the request to a file, so that a person can look for wrong ones.
"""

import argparse
import csv
import gzip
import heapq
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from flask import Flask
from tqdm import tqdm

from jobs.job import Claim, Job, Origin
from jobs.models import Catalogue
from jobs.store.job_store import JobStore
from memo import BadRecipe, Memory, Picture, write_png
from memo.judge.words import same_words
from memo.memory import object_name
from web import create_app
from web.config import LONGEST_REROLL, WebConfig
from web.picture_requests import request_pictures
from web.rerolls import name_recipient

from .fleet import Fleet, start_fleet
from .recall import PIXEL

POLICIES = ("auto", "near")
COLD = 30_000  # requests while memory still fills; the report also has figures for the requests after them
SIDE = 512  # px of every picture
MODEL_NAME = "simulated"
MODEL = {  # a usual kind of model; its weights are never needed
    "name": MODEL_NAME,
    "title": "Simulated",
    "licence": "none",
    "sizes": [SIDE],
    "defaults": {"width": SIDE, "height": SIDE, "steps": 50, "guidance_scale": 7.0},
    "script": "",
}
ANOTHER = "another one"  # how memory answers a repeated request: with a picture that the caller has not received


@dataclass(frozen=True, slots=True)
class Request:
    """A line of a trace."""

    caller: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A prompt, the differently worded one whose picture answered it, and how it was answered."""

    prompt: str
    remembered: str
    how: str


@dataclass
class Tally:
    """Counts for some requests. `requests` and `saved` (steps) are counted by how a request was answered."""

    requests: Counter[str] = field(default_factory=Counter)
    saved: Counter[str] = field(default_factory=Counter)
    steps: int = 0  # requested
    given_twice: int = 0
    decision_seconds: float = 0.0  # real time of all decisions

    def figures(self) -> dict[str, Any]:
        """The counts for the report. Saved steps are given as fractions of all requested steps."""
        total, steps = self.requests.total(), max(1, self.steps)
        return {
            "requests": total,
            "steps_saved": round(self.saved.total() / steps, 4),
            "steps_saved_by": {how: round(saved / steps, 4) for how, saved in self.saved.most_common() if saved},
            "answered": dict(self.requests.most_common()),
            "given_twice": self.given_twice,
            "decision_ms": round(1000 * self.decision_seconds / max(1, total), 1),
        }

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.requests + other.requests,
            self.saved + other.saved,
            self.steps + other.steps,
            self.given_twice + other.given_twice,
            self.decision_seconds + other.decision_seconds,
        )


@dataclass
class Traffic:
    """Sends a request every `pause` simulated seconds; a painter needs `seconds` for a picture painted from noise."""

    app: Flask
    memory: Memory
    job_store: JobStore
    seconds: float = 4.0
    painters: int = 4
    pause: float = 1.0
    clock: float = 0.0
    busy: list[tuple[float, int, Claim]] = field(default_factory=list)  # paintings; the one that ends next is first
    begun: int = 0  # paintings so far
    waiting: dict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))  # jobs by painting
    received: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # keys of pictures by receipt
    tally: Tally = field(default_factory=Tally)
    answers: list[Answer] = field(default_factory=list)

    def run(self, requests: Iterable[Request]) -> Iterator[Request]:
        """Send every request in turn, and yield it afterwards."""
        for request in requests:
            self.clock += self.pause
            self.finish_paintings()
            self.send(request)
            self.begin_paintings()
            yield request

    def send(self, request: Request) -> None:
        """Send one request: memory answers it, it joins a painting, or it is queued."""
        with self.app.test_request_context("/v1/images/generations", method="POST"):
            started = time.perf_counter()
            try:
                [job] = request_pictures({"prompt": request.prompt}, recipient=name_recipient(request.caller))
            except BadRecipe:
                self.tally.requests["refused"] += 1
                return
            finally:
                self.tally.decision_seconds += time.perf_counter() - started
        self.count(job, request.prompt)
        if job.picture:
            self.deliver(job)
        elif job.painting:
            self.waiting[job.painting].append(job)

    def count(self, job: Job, prompt: str) -> None:
        """Count how a request was answered, and how many steps that saved."""
        steps, how = job.recipe.steps, str(job.origin)
        saved, remembered = 0, ""
        if job.match:
            how = ANOTHER if self.received[job.receipt] else job.match.how
            saved, remembered = steps, job.match.prompt
        elif job.origin is Origin.JOINED:
            saved, remembered = steps, job.recipe.prompt
        elif job.near:
            saved = job.near.steps_saved
        if remembered and not same_words(remembered, prompt):
            self.answers.append(Answer(prompt, remembered, how))
        self.tally.requests[how] += 1
        self.tally.saved[how] += saved
        self.tally.steps += steps

    def begin_paintings(self) -> None:
        """Let idle painters take the next paintings."""
        while len(self.busy) < self.painters and (claim := self.job_store.claims.claim(MODEL_NAME)):
            skipped = claim.near.steps_saved / claim.recipe.steps if claim.near else 0
            self.begun += 1
            heapq.heappush(self.busy, (self.clock + (1 - skipped) * self.seconds, self.begun, claim))

    def finish_paintings(self) -> None:
        """Remember and deliver the pictures that are finished by now."""
        while self.busy and self.busy[0][0] <= self.clock:
            _, number, claim = heapq.heappop(self.busy)
            picture = Picture(
                recipe=claim.recipe, created=float(number), seconds=self.seconds, scope=claim.scope, near=claim.near
            )
            self.memory.store.put(object_name(picture.key), write_png(PIXEL, picture))
            self.memory.index_picture(picture, new=True)
            if not self.job_store.progress.complete(claim, picture):
                raise RuntimeError(f"the claim on painting {claim.painting} was lost")
            self.memory.painting_ended(claim.painting)
            for job in self.waiting.pop(claim.painting, []):
                self.deliver(replace(job, picture=picture))

    def deliver(self, job: Job) -> None:
        """Record that the caller has received the picture."""
        assert job.picture
        received = self.received[job.receipt]
        self.tally.given_twice += job.origin is Origin.MEMORY and job.picture.key in received
        received.add(job.picture.key)
        self.job_store.received.record([job], 60.0 * LONGEST_REROLL)


def main() -> None:
    """Print one line of JSON for each trace and policy, or with --json one line for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path, nargs="*")
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--judge", default="learned")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES)
    parser.add_argument("--most", type=int, help="replay at most so many requests of a trace")
    parser.add_argument("--read", type=int, default=0, help="how many differently worded answers to write to --sheet")
    parser.add_argument("--sheet", type=Path, default=Path("var/bench/answers.jsonl"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.traces:
        print("not measured: name a trace")
        return
    results, answers = [], list[dict[str, str]]()
    for trace in options.traces:
        for policy in options.policies:
            figures, of_trace = replay(trace, policy, options)
            results.append({"trace": trace.name, "policy": policy, **figures})
            answers += [{"trace": trace.name, "policy": policy, **asdict(answer)} for answer in of_trace]
            if not options.json:
                print(json.dumps(results[-1]), flush=True)
    if options.read:
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        sample = Random(1).sample(answers, min(options.read, len(answers)))
        options.sheet.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in sample))
    if options.json:
        print(json.dumps({**summarize(results), "traces": results}))


def replay(trace: Path, policy: str, options: argparse.Namespace) -> tuple[dict[str, Any], list[Answer]]:
    """Replay a trace on a server with this policy; returns the figures, and the answers whose words differ."""
    requests, cold = list(read_trace(trace))[: options.most], Tally()
    with (
        tempfile.TemporaryDirectory() as folder,
        start_fleet(Path(folder), options.text_folder.resolve(), step_seconds=0) as fleet,
        open_traffic(fleet, policy, options.judge) as traffic,
    ):
        started = time.monotonic()
        for number, _ in enumerate(tqdm(traffic.run(requests), policy, len(requests), mininterval=2), start=1):
            if number == COLD:
                cold, traffic.tally = traffic.tally, Tally()
        seconds = time.monotonic() - started
    figures = {**(cold + traffic.tally).figures(), "requests_per_second": round(len(requests) / seconds, 1)}
    if cold.requests:
        figures[f"after_{COLD}"] = traffic.tally.figures()
    return figures, traffic.answers


def read_trace(path: Path) -> Iterator[Request]:
    """The requests of a trace whose prompts are valid."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            prompt = " ".join(row["prompt"].split())
            if 0 < len(prompt) <= 2000 and prompt.isprintable():
                yield Request(row["caller"], prompt)


@contextmanager
def open_traffic(fleet: Fleet, policy: str, judge: str) -> Iterator[Traffic]:
    """Create the web application with this policy and without user limits, on the fleet's Redis and index."""
    models = fleet.folder / "models" / MODEL_NAME
    models.mkdir(parents=True)
    (models / "model.json").write_text(json.dumps(MODEL))
    memory, queue = fleet.open_memory(judge=judge, embedding_cache=fleet.folder / "embeddings"), fleet.open_queue()
    unlimited = {"rate": "", "daily": "", "queue_cap": "999999999"}
    config = WebConfig(keys="off", policy=policy, reroll_minutes=str(LONGEST_REROLL), **unlimited)
    app = create_app(memory, queue, Catalogue(models.parent), config)
    try:
        yield Traffic(app, memory, queue.job_store)
    finally:
        queue.events.stop()
        queue.celery.close()


def summarize(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Combine the traces: the mean of the saved steps, the sum of pictures given twice, and the lowest speed."""
    saved = defaultdict(list)
    for result in results:
        saved[f"steps_saved_{result['policy']}"].append(result["steps_saved"])
    return {
        **{name: round(sum(parts) / len(parts), 4) for name, parts in saved.items()},
        "given_twice": sum(result["given_twice"] for result in results),
        "requests_per_second": min(result["requests_per_second"] for result in results),
    }


if __name__ == "__main__":
    main()
