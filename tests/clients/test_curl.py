"""The curl examples of the documentation, run against a server on a real port."""

import json
import re
import subprocess

import pytest
from PIL import Image

from tests.real import ROOT, serving


def examples(name):
    """The curl commands of a document, with continued lines joined, except those with placeholders."""
    text = (ROOT / name).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0] for line in lines if line.startswith("curl") and "<id>" not in line]


@pytest.mark.parametrize(("name", "count"), [("README.md", 2), ("docs/api.md", 3)])
def test_the_curl_examples_work(app, working, tmp_path, name, count):
    commands = examples(name)
    assert len(commands) == count
    Image.new("RGB", (64, 64), "#c60").save(tmp_path / "sketch.png")
    with serving(app) as url:
        for command in commands:
            shell = command.replace("localhost:8000", url)
            completed = subprocess.run(["bash", "-c", shell], check=True, capture_output=True, cwd=tmp_path)
            result = json.loads(completed.stdout)
            if "/init-images" in shell:
                assert len(result["init_image"]) == 32
            else:
                assert result["state"] in ("queued", "running", "done")
                assert result["prompt"].lower().startswith("a red fox")
