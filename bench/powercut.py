"""Pull the plug again and again, and count what is lost.

The data folder of `memoaized up` is on an ext4 file system in a file, mounted by a loop device. While the product
paints, takes uploads, labels and keys, calls webhooks and deletes pictures, all its processes are stopped and the
file is copied until two copies are equal: that is what a power cut leaves. The product then starts on the copy, is
compared with what it had acknowledged, and works on until the next cut. Needs root, since it mounts.

Redis syncs its file every second, so jobs and keys of the last second may be lost: `in_last_second` counts those
apart, and `oldest_lost_ms` is the age of the oldest of them at the cut. Nothing else may be lost.
"""

import argparse
import contextlib
import filecmp
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from jobs.api_keys import ApiKeys
from jobs.store.connection import open_connection
from memo import BadKey, read_png
from memo.memory import key_of_object
from memo.store import FolderStore
from memoaized.redis_server import read_redis_url
from memoaized.up import LOOPBACK, free_port

MEBIBYTES = 1024  # size of the file system
WORK_SECONDS = 4.0, 20.0  # at least and at most, from a start to the cut
LAST_SECONDS = 1.5  # before a cut: Redis syncs every second, by a thread of its own
INDEX_SECONDS = 120.0  # how long the index may take to know every picture again
WEBHOOK_SECONDS = 180.0  # after the last cut, for all webhooks to arrive; the second attempt is minutes later
START_SECONDS = 180.0
LOSSES = (  # what the results count that must be 0
    *("pictures_lost", "jobs_lost", "keys_lost", "labels_lost", "uploads_lost", "webhooks_lost"),
    *("deletions_lost", "doubles", "index_behind"),
)
JOB = {"width": 128, "height": 128, "steps": 2, "memo": "refresh"}


def main() -> None:
    """Print a table, or with --json one line; the exit status is 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.exit(2, "bench.powercut mounts a file system, which only root may do: run it with sudo\n")
    if not options.text_folder.is_dir():
        parser.exit(2, f"{options.text_folder} does not exist: run memoaized prepare first\n")
    with tempfile.TemporaryDirectory() as folder:
        bench = PowerCuts(Path(folder), options.models.resolve(), random.Random(options.seed))
        results = bench.run(options.text_folder, options.cuts)
    lines = [json.dumps(results)] if options.json else [f"{name:24} {value}" for name, value in results.items()]
    print("\n".join(lines))
    sys.exit(results["starts"] < results["cuts"] or any(results[name] for name in LOSSES))


@dataclass(slots=True)
class Acknowledged:
    """What the product said it has, each with the time when it said so (time.monotonic)."""

    jobs: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, float] = field(default_factory=dict)  # keys of finished pictures
    belongings: dict[str, list[str]] = field(default_factory=dict)  # jobs and labels that go with a picture, by key
    init_images: dict[str, float] = field(default_factory=dict)
    labels: dict[str, float] = field(default_factory=dict)  # the wanted prompts
    webhooks: dict[str, float] = field(default_factory=dict)  # jobs whose end was to be reported
    keys: dict[str, float] = field(default_factory=dict)  # names of API keys
    deleted: set[str] = field(default_factory=set)  # keys of pictures


class Receiver:
    """Takes webhooks and remembers the jobs that they are about."""

    def __init__(self) -> None:
        self.jobs = jobs = set[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                jobs.add(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["id"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing of requests."""

        self.server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self.server.shutdown()
        self.server.server_close()


class PowerCuts:
    """Runs the product on a file system in `folder`, cuts its power and counts."""

    def __init__(self, folder: Path, models: Path, chance: random.Random) -> None:
        self.folder, self.models, self.chance = folder, models, chance
        self.image, self.data = folder / "disk.img", folder / "data"
        self.url = ""
        self.receiver = Receiver()
        self.number = 0  # of things done, which names them
        self.acknowledged = Acknowledged()
        self.results: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()  # of all that was acknowledged, by kind

    def run(self, text_folder: Path, cuts: int) -> dict[str, int]:
        """Make a file system, and cut the power `cuts` times; returns the results by name."""
        self.data.mkdir()
        with self.image.open("wb") as file:
            file.truncate(MEBIBYTES * 2**20)
        product = None
        try:
            run_command("mkfs.ext4", "-q", "-F", str(self.image))
            run_command("mount", "-o", "loop", str(self.image), str(self.data))
            shutil.copytree(text_folder, self.data / "text")
            os.sync()
            product = self.start()
            for cut in range(cuts):
                self.work(self.chance.uniform(*WORK_SECONDS))
                moment = self.cut_power(product)
                product = self.start()
                self.results["cuts"] += 1
                self.results["starts"] += product is not None
                if product is None:
                    break  # the folder stays for a look, but nothing more can be counted
                self.count_losses(moment)
                print(f"cut {cut + 1}: {dict(self.results)}", file=sys.stderr, flush=True)
            self.results["webhooks_lost"] = self.count_webhooks_lost()
        finally:
            self.end(product)
            self.receiver.close()
        names = ("cuts", "starts", *LOSSES, "in_last_second", "oldest_lost_ms")
        said = {f"{name}_acknowledged": count for name, count in self.counts.items()}
        return {**{name: self.results[name] for name in names}, **said}

    def start(self) -> "subprocess.Popen[bytes] | None":
        """Start the product; None if it does not become ready."""
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        command = [sys.executable, "-m", "memoaized.cli", "up", "--port", str(port), "--data", str(self.data)]
        environment = {**os.environ, "JOBS_WEBHOOK_ALLOW": LOOPBACK}
        with (self.folder / "log").open("ab") as log:
            product = subprocess.Popen(
                [*command, "--models", str(self.models)], stdout=log, stderr=log, env=environment
            )
        deadline = time.monotonic() + START_SECONDS
        while product.poll() is None and time.monotonic() < deadline:
            if self.send("GET", "/healthz"):
                return product
            time.sleep(0.3)
        print((self.folder / "log").read_text(errors="replace")[-3000:], file=sys.stderr)
        kill_tree(product.pid)
        product.wait()
        return None

    def work(self, seconds: float) -> None:
        """Use the product in all ways for some seconds, and note what it acknowledges."""
        deeds = (self.submit, self.submit, self.upload, self.label, self.add_key, self.delete)
        deadline, watched = time.monotonic() + seconds, list[str]()
        while time.monotonic() < deadline:
            if job := self.chance.choice(deeds)():
                watched.append(job)
            watched = [job for job in watched if not self.note_picture(job)]
            time.sleep(self.chance.uniform(0, 0.3))

    def submit(self) -> str | None:
        """Submit a job, every second one with a webhook; returns its id."""
        self.number += 1
        webhook = {"webhook": self.receiver.url} if self.number % 2 else {}
        answer = self.send("POST", "/api/v1/jobs", {**JOB, **webhook, "prompt": f"a red fox, number {self.number}"})
        if webhook:
            self.note(self.acknowledged.webhooks, answer and answer["id"])
        return self.note(self.acknowledged.jobs, answer and answer["id"])

    def note_picture(self, job: str) -> bool:
        """Note the picture of a job; False while it is not final."""
        answer = self.send("GET", f"/api/v1/jobs/{job}")
        if answer and answer["state"] == "done":
            key = answer["picture"]["key"]
            self.acknowledged.belongings.setdefault(key, []).append(job)
            self.note(self.acknowledged.pictures, key)
        return bool(answer) and answer["state"] in ("done", "failed", "cancelled")

    def upload(self) -> None:
        """Upload an initial picture of a colour of its own."""
        self.number += 1
        file = io.BytesIO()
        Image.new("RGB", (64, 64), (self.number % 256, self.number // 256 % 256, 7)).save(file, "PNG")
        answer = self.send("POST", "/api/v1/init-images", file.getvalue())
        self.note(self.acknowledged.init_images, answer and answer["init_image"])

    def label(self) -> None:
        """Say that a picture is wrong for a prompt."""
        self.number += 1
        if keys := sorted(self.acknowledged.pictures):
            prompt = f"a blue whale, number {self.number}"
            body = {"right": False, "prompt": prompt}
            key = self.chance.choice(keys)
            answer = self.send("POST", f"/api/v1/pictures/{key}/feedback", body)
            self.acknowledged.belongings.setdefault(key, []).append(prompt)
            self.note(self.acknowledged.labels, prompt if answer is not None else None)

    def add_key(self) -> None:
        """Add an API key."""
        self.number += 1
        self.api_keys().add(f"user-{self.number}")
        self.note(self.acknowledged.keys, f"user-{self.number}")

    def delete(self) -> None:
        """Delete a picture, one time in four."""
        if (keys := sorted(self.acknowledged.pictures)) and self.chance.random() < 0.25:
            key = self.chance.choice(keys)
            del self.acknowledged.pictures[key]  # whether or not the answer arrives
            for name in self.acknowledged.belongings.pop(key, ()):
                self.acknowledged.jobs.pop(name, None)
                self.acknowledged.webhooks.pop(name, None)
                self.acknowledged.labels.pop(name, None)
            if self.send("DELETE", f"/api/v1/pictures/{key}") is not None:
                self.acknowledged.deleted.add(key)

    def api_keys(self) -> ApiKeys:
        """The API keys of the running product."""
        return ApiKeys(open_connection(read_redis_url(self.data / "run")))

    def known_keys(self) -> set[str]:
        """The names of all API keys."""
        return {record.name for record in self.api_keys().all()}

    def note(self, notes: dict[str, float], name: str | None) -> str | None:
        """Note that something was acknowledged now; returns its name."""
        if name and name not in notes:
            notes[name] = time.monotonic()
            kind = next(kind.name for kind in fields(Acknowledged) if getattr(self.acknowledged, kind.name) is notes)
            self.counts[kind] += 1
        return name

    def cut_power(self, product: "subprocess.Popen[bytes] | None") -> float:
        """Stop all processes, replace the disk by what it holds at this moment, and return the time of the cut."""
        assert product is not None
        moment = time.monotonic()
        for process in tree_of(product.pid):
            process.suspend()
        first, second = self.folder / "copy-1.img", self.folder / "copy-2.img"
        copy_sparsely(self.image, first)
        copy_sparsely(self.image, second)
        while not filecmp.cmp(first, second, shallow=False):  # the system goes on writing what was written before
            first, second = second, first
            copy_sparsely(self.image, second)
        self.end(product)
        first.replace(self.image)
        second.unlink()
        run_command("mount", "-o", "loop", str(self.image), str(self.data))
        return moment

    def end(self, product: "subprocess.Popen[bytes] | None") -> None:
        """Kill the product and unmount its disk."""
        if product:
            kill_tree(product.pid)
            product.wait()
        wait_for(lambda: subprocess.run(["umount", str(self.data)], capture_output=True).returncode == 0, 20)

    def count_losses(self, moment: float) -> None:
        """Compare the product with what it acknowledged before the cut, and forget what it lost."""
        said = self.acknowledged
        self.results["index_behind"] += self.wait_for_index()
        stored = self.stored_keys()
        self.results["pictures_lost"] += len(forget(said.pictures, lambda key: key in stored))
        names = set(FolderStore(self.data / "pictures").names())
        lost_uploads = forget(said.init_images, lambda name: any(name in each for each in names))
        self.results["uploads_lost"] += len(lost_uploads)
        self.results["deletions_lost"] += len(said.deleted & stored)
        said.deleted -= stored
        known = self.known_keys()
        labels = self.labels()
        checks: tuple[tuple[str, dict[str, float], Callable[[str], bool]], ...] = (
            ("jobs_lost", said.jobs, lambda job: self.knows_job(job)),
            ("keys_lost", said.keys, lambda name: name in known),
            ("labels_lost", said.labels, lambda prompt: prompt in labels),
        )
        for name, notes, is_there in checks:
            self.count_lost(name, notes, is_there, moment)
        forget(said.webhooks, lambda job: job in said.jobs and said.webhooks[job] < moment - LAST_SECONDS)
        self.results["doubles"] += self.count_doubles()

    def count_lost(self, name: str, notes: dict[str, float], is_there: Callable[[str], bool], moment: float) -> None:
        """Count what is gone under a name of the results, and jobs and keys of the last second apart."""
        ages = [moment - acknowledged for acknowledged in forget(notes, is_there)]
        late = [age for age in ages if age < LAST_SECONDS and name in ("jobs_lost", "keys_lost")]
        self.results[name] += len(ages) - len(late)
        self.results["in_last_second"] += len(late)
        self.results["oldest_lost_ms"] = max([self.results["oldest_lost_ms"], *(round(1000 * age) for age in late)])

    def count_webhooks_lost(self) -> int:
        """Wait for the webhooks of all jobs that are kept; returns how many do not come."""
        wait_for(lambda: self.receiver.jobs.issuperset(self.acknowledged.webhooks), WEBHOOK_SECONDS)
        return len(self.acknowledged.webhooks.keys() - self.receiver.jobs)

    def wait_for_index(self) -> int:
        """Wait until the index lists every stored picture and no deleted one; return how many are still wrong."""
        wrong: set[str] = set()

        def is_complete() -> bool:
            nonlocal wrong
            indexed = self.indexed_keys()
            wrong = (self.stored_keys() - indexed) | (self.acknowledged.deleted & indexed)
            return not wrong

        wait_for(is_complete, INDEX_SECONDS)
        return len(wrong)

    def stored_keys(self) -> set[str]:
        """The keys of all pictures in the store."""
        names = FolderStore(self.data / "pictures").names()
        return {key for name in names if (key := key_of_object(name))}

    def indexed_keys(self) -> set[str]:
        """The keys of all pictures in the gallery."""
        keys, path = set[str](), "/api/v1/pictures?limit=100"
        while answer := self.send("GET", path):
            keys |= {picture["key"] for picture in answer["pictures"]}
            if not answer["next"]:
                break
            path = f"/api/v1/pictures?limit=100&before={answer['next']}"
        return keys

    def labels(self) -> set[str]:
        """The wanted prompts of all labels."""
        with urllib.request.urlopen(f"{self.url}/api/v1/labels", timeout=30) as answer:
            return {json.loads(line)["b"] for line in answer}

    def knows_job(self, job: str) -> bool:
        """Whether the product still has a job."""
        return self.send("GET", f"/api/v1/jobs/{job}") is not None

    def count_doubles(self) -> int:
        """Count the surplus pictures. Each job has its own prompt and asks for one picture."""
        prompts: Counter[str] = Counter()
        for key in self.stored_keys():
            try:
                file = self.data / "pictures" / key[:2] / f"{key}.png"
                prompts[read_png(file.read_bytes()).recipe.prompt] += 1
            except (OSError, BadKey):
                continue
        return sum(count - 1 for count in prompts.values())

    def send(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer to a request, {} for an empty one; None if what it names is not there, or no answer came.

        Raises RuntimeError if the request is refused: the bench would measure nothing.
        """
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        kind = "image/png" if isinstance(body, bytes) else "application/json"
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            if error.code in (404, 409, 503):  # 409: a user may label a picture only so often
                return None
            raise RuntimeError(f"{method} {path} was refused: {error.read().decode()}") from error
        except (OSError, ValueError):
            return None


def forget(notes: dict[str, float], is_there: Callable[[str], bool]) -> list[float]:
    """Remove the names of things that are not there; returns when each was acknowledged."""
    return [notes.pop(name) for name in list(notes) if not is_there(name)]


def tree_of(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; it is stopped, so that it starts no new ones. Empty if it has ended."""
    try:
        root = psutil.Process(pid)
        root.suspend()
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants."""
    processes = tree_of(pid)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=3)


def copy_sparsely(source: Path, target: Path) -> None:
    """Copy a file without writing its holes."""
    run_command("cp", "--sparse=always", str(source), str(target))


def run_command(*command: str) -> None:
    """Run a command; exits with its message if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition becomes true within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


if __name__ == "__main__":
    main()
