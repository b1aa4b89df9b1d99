"""Remembering and painting look no name up and send nothing: in a network namespace that counts every attempt."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real import ROOT

WORK = """
from pathlib import Path

from jobs.models import Catalogue
from memo import Recipe
from memo.judge.factory import open_judge
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions

verdict, = open_judge("learned", Path("var/text"))("a red fox in the snow", ["a fox in the snow"])
model = Catalogue(Path("models")).model("stickers")
painter = open_painter(model, PainterOptions(device="cpu"))
picture = painter(Recipe(prompt="a red fox", model=model.name, revision=model.revision, seed=1, steps=2), print)
assert picture.getextrema() != ((0, 0),) * 3 and verdict.reason
"""
COUNT = """
counts = [line.split() for line in open("/proc/net/snmp") if line.startswith("Ip:")]
print("attempts:", dict(zip(*counts))["OutNoRoutes"])
"""
SET_BY_CI = {"CI", "ORT_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "HF_HOME"}


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """The command that runs another one without any network, not even loopback."""
    for command in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        try:
            subprocess.run([*command, "true"], check=True, capture_output=True)
            return command
        except (OSError, subprocess.CalledProcessError) as error:
            reason = str(error)
    # Containers and hardened kernels forbid it; the code itself is tested by the other tests.
    pytest.skip(f"no network namespace may be made here: {reason}")


def count_attempts(namespace: list[str], code: str, home: Path) -> int:
    """Run the code with this home and no network; returns how many packets it tried to send."""
    environment = {name: value for name, value in os.environ.items() if name not in SET_BY_CI} | {"HOME": str(home)}
    command = [*namespace, sys.executable, "-c", code + COUNT]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rpartition("attempts: ")[2])


def test_a_lookup_would_be_counted(namespace, tmp_path):
    lookup = "import socket\ntry: socket.getaddrinfo('example.org', 443)\nexcept OSError: pass\n"
    assert count_attempts(namespace, lookup, tmp_path) > 0
    assert count_attempts(namespace, "", tmp_path) == 0


def test_embedding_judging_and_painting_send_nothing_and_write_no_device_id(namespace, tmp_path):
    assert count_attempts(namespace, WORK, tmp_path) == 0
    assert not (tmp_path / ".cache" / "Microsoft").exists()
