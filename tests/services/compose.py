"""Reads docker-compose.yml and the Dockerfiles as Docker would, as far as our tests need. Runs nothing."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "docker-compose.yml"
WITHOUT_GPU = REPOSITORY / "deploy" / "compose.cpu.yml"
WITH_WEBHOOKS = REPOSITORY / "deploy" / "compose.webhooks.yml"
DOCKERFILES = sorted((REPOSITORY / "deploy").glob("*.Dockerfile"))

RESET = "!reset"


class ComposeLoader(yaml.SafeLoader):
    """Reads YAML with Compose's !reset tag, which removes a value of another file."""


ComposeLoader.add_constructor(RESET, lambda loader, node: RESET)


def load(path: Path = COMPOSE) -> dict[str, Any]:
    return yaml.load(path.read_text(), ComposeLoader)


def merged(base: Any, over: Any) -> Any:
    """Merge the second file into the first: mappings are merged, anything else is replaced."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    kept = {name: value for name, value in base.items() if over.get(name) != RESET}
    return kept | {name: merged(base.get(name), value) for name, value in over.items() if value != RESET}


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """Fill in ${NAME:-default} and turn $$ into a dollar; raises ValueError for any other dollar."""
    if isinstance(value, dict):
        return {name: interpolated(part, variables) for name, part in value.items()}
    if isinstance(value, list):
        return [interpolated(part, variables) for part in value]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if not found["name"]:
            raise ValueError(f"{value!r}: write $$ for a dollar, or ${{NAME:-default}}")
        return variables.get(found["name"]) or found["default"]

    return re.sub(r"\$\$|\$\{(?P<name>\w+):-(?P<default>[^}]*)\}|\$", fill, value)


def services(variables: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    return interpolated(load()["services"], variables or {})


def services_without_gpu() -> dict[str, dict[str, Any]]:
    return interpolated(merged(load(), load(WITHOUT_GPU))["services"], {})


def in_start_order(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the names of services, each after those it depends on; raises ValueError for a circle."""
    order: list[str] = []
    while waiting := [name for name in found if name not in order]:
        ready = [name for name in waiting if found[name].get("depends_on", {}).keys() <= set(order)]
        if not ready:
            raise ValueError(f"these wait for each other: {waiting}")
        order += ready
    return order


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return pairs (INSTRUCTION, arguments), with continued lines joined and ARG defaults filled in."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    found = []
    defaults: dict[str, str] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(None, 1)
        if word == "ARG" and "=" in rest:
            name, default = rest.split("=", 1)
            defaults[name] = default
        found.append((word, re.sub(r"\$\{(\w+)\}", lambda arg: defaults.get(arg[1], arg[0]), rest.strip())))
    return found


def last_stage(dockerfile: Path) -> list[tuple[str, str]]:
    every = instructions(dockerfile)
    start = max(place for place, (word, _) in enumerate(every) if word == "FROM")
    return every[start:]


def image_environment(dockerfile: Path) -> dict[str, str]:
    """Return the variables that ENV sets in the final image."""
    pairs = " ".join(rest for word, rest in last_stage(dockerfile) if word == "ENV").split()
    return dict(pair.split("=", 1) for pair in pairs)


def image_command(dockerfile: Path) -> list[str]:
    return json.loads(next(rest for word, rest in last_stage(dockerfile) if word == "CMD"))


def image_health_check(dockerfile: Path) -> list[str]:
    """Return the command of HEALTHCHECK in exec form."""
    check = next(rest for word, rest in last_stage(dockerfile) if word == "HEALTHCHECK")
    return json.loads(check.split("CMD", 1)[1])


def health_check(service: Mapping[str, Any]) -> list[str] | None:
    """Return a service's health check, or its image's; None for a service that ends by itself."""
    if "healthcheck" in service:
        kind, *words = service["healthcheck"]["test"]
        return words if kind == "CMD" else ["sh", "-c", *words]
    return image_health_check(dockerfile_of(service)) if "build" in service else None


def dockerfile_of(service: Mapping[str, Any]) -> Path:
    return REPOSITORY / service["build"]["dockerfile"]


def seconds(duration: str) -> int:
    """Return the seconds of a duration such as 1m30s."""
    return sum(int(number) * {"s": 1, "m": 60}[unit] for number, unit in re.findall(r"(\d+)([ms])", duration))
