"""Prints the packages that pyproject.toml requires, one a line: python requirements.py pyproject.toml [EXTRA …]

The Dockerfiles install these before they copy the sources, so that a changed source does not install them again.
"""

import sys
import tomllib
from pathlib import Path


def list_requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """Return what building and running the project requires, with these extras; raises KeyError for unknown ones."""
    document = tomllib.loads(pyproject.read_text())
    project = document["project"]
    optional = [requirement for extra in extras for requirement in project["optional-dependencies"][extra]]
    return [*document["build-system"]["requires"], *project["dependencies"], *optional]


if __name__ == "__main__":
    print(*list_requirements(Path(sys.argv[1]), sys.argv[2:]), sep="\n")
