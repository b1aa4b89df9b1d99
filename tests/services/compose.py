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
    """Reads YAML with Compose's tag !reset, which removes a value that an earlier file has set."""


ComposeLoader.add_constructor(RESET, lambda loader, node: RESET)


def load(path: Path = COMPOSE) -> dict[str, Any]:
    return yaml.load(path.read_text(), ComposeLoader)


def merge(base: Any, override: Any) -> Any:
    """Merge the second file into the first: mappings are merged, anything else is replaced."""
    if not (isinstance(base, dict) and isinstance(override, dict)):
        return override
    unreplaced = {name: value for name, value in base.items() if override.get(name) != RESET}
    return unreplaced | {name: merge(base.get(name), value) for name, value in override.items() if value != RESET}


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Fill in ${NAME:-default} and turn $$ into a dollar; raises ValueError for any other dollar."""
    if isinstance(value, dict):
        return {name: interpolate(part, variables) for name, part in value.items()}
    if isinstance(value, list):
        return [interpolate(part, variables) for part in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if not match["name"]:
            raise ValueError(f"{value!r}: write $$ for a dollar, or ${{NAME:-default}}")
        return variables.get(match["name"]) or match["default"]

    return re.sub(r"\$\$|\$\{(?P<name>\w+):-(?P<default>[^}]*)\}|\$", fill, value)


def services(variables: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    return interpolate(load()["services"], variables or {})


def services_without_gpu() -> dict[str, dict[str, Any]]:
    return interpolate(merge(load(), load(WITHOUT_GPU))["services"], {})


def sort_by_dependency(definitions: dict[str, dict[str, Any]]) -> list[str]:
    """Return the names of services, each after its dependencies; raises ValueError for a cycle."""
    sorted_names: list[str] = []
    while waiting := [name for name in definitions if name not in sorted_names]:
        ready = [name for name in waiting if definitions[name].get("depends_on", {}).keys() <= set(sorted_names)]
        if not ready:
            raise ValueError(f"these wait for each other: {waiting}")
        sorted_names += ready
    return sorted_names


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return pairs (INSTRUCTION, arguments), with continued lines joined and ARG defaults filled in."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    pairs = []
    defaults: dict[str, str] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(None, 1)
        if word == "ARG" and "=" in rest:
            name, default = rest.split("=", 1)
            defaults[name] = default
        pairs.append((word, re.sub(r"\$\{(\w+)\}", lambda arg: defaults.get(arg[1], arg[0]), rest.strip())))
    return pairs


def stages(dockerfile: Path) -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage, each from its FROM on."""
    parts: list[list[tuple[str, str]]] = []
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            parts.append([])
        if parts:
            parts[-1].append((word, rest))
    return parts


def last_stage(dockerfile: Path) -> list[tuple[str, str]]:
    return stages(dockerfile)[-1]


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


def bytes_of(size: str) -> int:
    """Return the bytes of a size such as 16g, 1gb or 3Gi."""
    parts = re.fullmatch(r"(\d+)([kmg])[bi]?", size.lower())
    assert parts, f"{size} is no size"
    number, unit = parts.groups()
    return int(number) * 1024 ** ("kmg".index(unit) + 1)
