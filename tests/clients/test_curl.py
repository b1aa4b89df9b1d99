"""The curl examples of the documentation, run against a server on a real port."""

import json
import re
import subprocess

import pytest

from tests.real import ROOT, serving


def examples(name):
    """Each curl command of a document, its lines joined; those with a placeholder are filled in by the reader."""
    text = (ROOT / name).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0] for line in lines if line.startswith("curl") and "<id>" not in line]


@pytest.mark.parametrize(("name", "many"), [("README.md", 2), ("docs/api.md", 2)])
def test_what_the_documentation_asks_for_is_painted_or_remembered(app, working, name, many):
    commands = examples(name)
    assert len(commands) == many
    with serving(app) as url:
        for command in commands:
            shell = command.replace("localhost:8000", url)
            told = json.loads(subprocess.run(["bash", "-c", shell], check=True, capture_output=True).stdout)
            assert told["state"] in ("queued", "running", "done") and told["prompt"].lower().startswith("a red fox")
