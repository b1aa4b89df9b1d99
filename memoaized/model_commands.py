"""`memoaized model …`: adds models of the Hugging Face hub as folders with a model.json, pinned to one commit.

It reads the hub's description of a model and its small configuration files; it downloads weights but never opens
them. It accepts only safetensors, and never runs code from a repository.
The hub's API: https://huggingface.co/docs/huggingface_hub/package_reference/hf_api.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from disk.durable_files import move_durably
from jobs.models import DEFAULT_SAMPLERS, PIPELINE, STEP_LOOP_FAMILIES, Catalogue
from memo import BadSetup

from .command_group import FOLDER, ROOT, CommandGroup
from .hub_presets import ALL, BOTH_SCHEDULES, PRESETS, Preset
from .train_commands import check_name

T = TypeVar("T")

SHIPPED = "stickers"
HUB_SECONDS = 20.0  # to wait for one answer of the hub
INDEX, CARD = "model_index.json", "README.md"
LATENT_SCALE = 8  # pixels along each side of one latent, in the autoencoders of all these models
WEIGHTS = re.compile(r"(diffusion_pytorch_model|pytorch_model|model)\b.*\.(bin|safetensors)")  # in any format
LOADABLE = re.compile(r"(diffusion_pytorch_model|model)(-\d{5}-of-\d{5})?\.safetensors")  # the only format we load
CONFIG_FILES = (".json", ".txt", ".model")  # configurations and vocabularies
FAMILY_OF = dict(zip(("StableDiffusionPipeline", "StableDiffusionXLPipeline"), STEP_LOOP_FAMILIES, strict=True))
GIB = 2**30


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the hub at one commit. `parts` maps each part of its pipeline to its library and class."""

    source: str
    commit: str
    licence: str
    kind: str  # the class of its pipeline
    parts: Mapping[str, tuple[str, str]]
    files: Mapping[str, int]  # bytes by path

    def folder(self, part: str) -> str:
        """Return a part's folder: one with the part's name, or "" for early models, whose files lie at the top."""
        return f"{part}/" if any(path.startswith(f"{part}/") for path in self.files) else ""

    def files_of(self, part: str) -> list[str]:
        """Return the paths of a part's files."""
        folder = self.folder(part)
        return [path for path in self.files if path.rpartition("/")[0] == folder.rstrip("/")]

    def files_to_download(self) -> list[str]:
        """Return the files that the pipeline needs, with the weights as safetensors in one precision."""
        paths = {path for part in self.parts for path in self.files_of(part)}
        top = [path for path in (INDEX, CARD) if path in self.files]
        return top + [path for path in sorted(paths - {INDEX}) if is_needed(path)]

    @property
    def gib(self) -> float:
        """Size of the weights to download, in GiB."""
        return sum(self.files[path] for path in self.files_to_download() if path.endswith(".safetensors")) / GIB


@click.group(cls=CommandGroup)
def model() -> None:
    """Add, list and remove models of the Hugging Face hub and of external services."""


@model.command()
def presets() -> None:
    """List the models known by name. GiB estimates the GPU memory that each needs at least."""
    for preset in ALL:
        gib = f"{preset.min_gib} GiB" if preset.min_gib else "no GPU"
        gate = "gated" if preset.gated else "open"
        click.echo(f"{preset.name:<16} {gib:<7} {gate:<6} {preset.family:<22} {preset.source}")
        settings = f"{preset.steps} steps, guidance {preset.guidance_scale:g}, {preset.sampler} {preset.schedule}"
        click.echo(f"{'':<16} {settings}; sizes {', '.join(map(str, preset.sizes))}; {preset.licence}")
        if preset.note:
            click.echo(f"{'':<16} {preset.note}")


@model.command()
@click.argument("preset_or_id", metavar="PRESET|HUB_ID")
@click.option("--name", help="The model's name here.  [default: that of the preset or the repository]")
@click.option("--models", type=FOLDER, default=ROOT / "models", help="Folder of picture models.")
@click.option("--revision", help="A branch, tag or commit; it is pinned to the current commit.")
@click.option("--download", is_flag=True, help="Download the weights now; else the worker does when it starts.")
def add(preset_or_id: str, name: str | None, models: Path, revision: str | None, download: bool) -> None:
    """Add a model of the hub or of an external service."""
    check_name(name)
    preset = find_preset(preset_or_id)
    name = name or (preset.name if preset else model_name(preset_or_id))
    if (models / name).exists():
        raise BadSetup(f"{models / name} exists already: give another --name, or run `memoaized model remove {name}`")
    hub_model = None
    if preset is None or not preset.remote:
        source = preset.source if preset else preset_or_id
        hub_model = read_hub_model(source, revision or (preset.revision if preset else "main"))
    elif revision or download:
        raise BadSetup(f"{preset.name} is painted by an external service: leave out --revision and --download")
    if hub_model and download:
        click.echo(f"downloaded {hub_model.gib:.1f} GiB to {download_weights(hub_model)}")
    preset = preset or guess_preset(hub_model)  # type: ignore[arg-type]  # one of the two is always set
    pipeline = {"pipeline": hub_model.kind} if hub_model and preset.family == PIPELINE else {}
    file = write_model_json({**preset.model_json(name, hub_model.commit if hub_model else None), **pipeline}, models)
    click.echo(f"{file}: {preset.source}{f' at {hub_model.commit}' if hub_model else ''}; {preset.licence}")
    if preset.min_gib:
        click.echo(f"needs a GPU with about {preset.min_gib} GiB; {preset.note or 'running workers can use it'}")


@model.command("list")
@click.option("--models", type=FOLDER, default=ROOT / "models", help="Folder of picture models.")
def list_models(models: Path) -> None:
    """List the models in the folder."""
    for entry in Catalogue(models).models().values():
        settings = json.loads((entry.folder / "model.json").read_text())
        source = settings.get("source", "its folder")
        if commit := settings.get("hub_revision"):
            source += f" at {commit[:12]}"
        sizes, family = ", ".join(map(str, entry.sizes)), settings.get("family", "own")
        click.echo(f"{entry.name:<16} {entry.revision} {family:<22} {source}; sizes {sizes}; {entry.licence}")


@model.command()
@click.argument("name")
@click.option("--models", type=FOLDER, default=ROOT / "models", help="Folder of picture models.")
@click.option("--force", is_flag=True, help="Delete even the shipped model.")
def remove(name: str, models: Path, force: bool) -> None:
    """Delete a model's folder; downloaded weights stay in the hub's cache (see `hf cache`)."""
    known = Catalogue(models).models()
    if name not in known:
        raise BadSetup(f"there is no model {name!r} in {models}, only {', '.join(known)}")
    if name == SHIPPED and not force:
        raise BadSetup(f"{name} is the default model that memoAIzed ships with; delete it with --force")
    removed = models / f".removed-{known[name].folder.name}"
    shutil.rmtree(removed, ignore_errors=True)
    known[name].folder.rename(removed)  # so that nobody sees a half-deleted model
    shutil.rmtree(removed)
    click.echo(f"removed {known[name].folder}")


def find_preset(preset_or_id: str) -> Preset | None:
    """Return the preset of this name or hub id; None for any other hub id. Raises BadSetup for anything else."""
    if preset_or_id in PRESETS:
        return PRESETS[preset_or_id]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", preset_or_id):
        raise BadSetup(f"{preset_or_id!r} is neither OWNER/MODEL of the hub nor a preset: {', '.join(PRESETS)}")
    return next((preset for preset in ALL if preset.source == preset_or_id and not preset.remote), None)


def model_name(hub_id: str) -> str:
    """Return the repository's name, reduced to the characters that the names of our models allow."""
    return re.sub(r"[^a-z0-9]+", "-", hub_id.rpartition("/")[2].lower()).strip("-")[:64]


def read_hub_model(source: str, revision: str) -> HubModel:
    """Read a model's description from the hub; raises BadSetup if it is missing, gated, unreachable or unsafe."""
    api = hub()
    info = ask_hub(
        source, lambda: api.model_info(source, revision=revision, timeout=HUB_SECONDS, files_metadata=True)
    )
    files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    if INDEX not in files:
        raise BadSetup(f"{source} is not a pipeline in diffusers' layout: it has no {INDEX}")
    index = read_json_file(source, INDEX, info.sha)  # fails for gated models, whose list of files is still public
    kind = index.pop("_class_name", None)
    pairs = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    parts = {name: (library, class_name) for name, (library, class_name) in pairs.items() if library is not None}
    hub_model = HubModel(source, info.sha, licence_of(info), kind, parts, files)
    check_safety(hub_model)
    return hub_model


def hub() -> Any:
    """Return the hub's client, which reads HF_TOKEN and HF_ENDPOINT; raises BadSetup if it is not installed."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise BadSetup("huggingface_hub is not installed: pip install 'memoaized[gpu]'") from error
    return HfApi()


def ask_hub(source: str, request: Callable[[], T]) -> T:
    """Return the hub's answer; raises BadSetup that says how to fix the error."""
    import httpx2
    from huggingface_hub import errors

    endpoint = hub().endpoint
    page = f"{endpoint}/{source}"
    messages: dict[type[Exception], str] = {
        errors.GatedRepoError: f"{source} is gated: accept its licence at {page} and set HF_TOKEN to your token",
        errors.RepositoryNotFoundError: f"the hub has no model {source}, or it is private: if so, set HF_TOKEN",
        errors.RevisionNotFoundError: f"{source} has no such revision: see {page}/commits/main",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE forbids access to the hub: unset it for this command",
        errors.HFValidationError: f"{source} is not a valid name on the hub",
        errors.HfHubHTTPError: f"the hub refused {source}: check HF_TOKEN",
        httpx2.HTTPError: f"the hub at {endpoint} cannot be reached: check the network connection",
        OSError: f"the hub at {endpoint} cannot be reached, or its cache cannot be written",
    }
    try:
        return request()
    except tuple(messages) as error:
        message = next(text for kind, text in messages.items() if isinstance(error, kind))
        details = str(error).strip().splitlines() or [type(error).__name__]
        raise BadSetup(f"{message} ({details[-1]})") from error


def read_json_file(source: str, path: str, commit: str) -> dict[str, Any]:
    """Read a JSON file of a model at a commit; raises BadSetup."""
    file = ask_hub(source, lambda: hub().hf_hub_download(source, path, revision=commit))
    try:
        content = json.loads(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise BadSetup(f"{source}: {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise BadSetup(f"{source}: {path} is not a JSON object")
    return content


def licence_of(info: Any) -> str:
    """Return the licence that the model's card names."""
    card = info.card_data or {}
    return str(card.get("license_name") or card.get("license") or "not stated")


def check_safety(hub_model: HubModel) -> None:
    """Raise BadSetup for a model that needs its own code, or has only pickled weights, which can run code too."""
    if not isinstance(hub_model.kind, str):
        raise BadSetup(f"{hub_model.source} needs its own pipeline code, and code from a repository is never run")
    for part, (library, _) in hub_model.parts.items():
        if f"{part}/{library}.py" in hub_model.files:
            raise BadSetup(f"{hub_model.source}: {part} needs its own code, and code from a repository is never run")
        weights = [path for path in hub_model.files_of(part) if WEIGHTS.fullmatch(file_name(path))]
        if weights and not any(LOADABLE.fullmatch(file_name(path)) for path in weights):
            raise BadSetup(
                f"{hub_model.source} has {weights[0]} but no plain safetensors beside it, the only format we load: "
                "look for a --revision with converted weights (refs/pr/N), or for another repository"
            )


def is_needed(path: str) -> bool:
    """Return whether a file has weights that we load, or is a configuration or vocabulary."""
    return LOADABLE.fullmatch(file_name(path)) is not None or path.endswith(CONFIG_FILES)


def file_name(path: str) -> str:
    """Return the path's last part."""
    return path.rpartition("/")[2]


def guess_preset(hub_model: HubModel) -> Preset:
    """Return a preset for a model without one: its settings are guessed from its files."""
    _, scheduler = hub_model.parts.get("scheduler", ("", ""))
    is_flow_matching, is_consistency_model = "FlowMatch" in scheduler, scheduler == "LCMScheduler"
    has_prompts = any(part.startswith("tokenizer") for part in hub_model.parts)
    if is_flow_matching:
        samplers: tuple[str, ...] = ("euler",)
    elif not has_prompts:
        samplers = ("ddim",)
    else:
        samplers = ("lcm",) if is_consistency_model else DEFAULT_SAMPLERS
    return Preset(
        name=model_name(hub_model.source),
        title=hub_model.source,
        source=hub_model.source,
        family=FAMILY_OF.get(hub_model.kind, PIPELINE),
        licence=hub_model.licence,
        sizes=(native_side(hub_model, 1024 if is_flow_matching else 512),),
        steps=4 if is_consistency_model else 50 if not has_prompts else 28,
        guidance_scale=(4.5 if is_flow_matching else 7.5) if has_prompts else 0.0,
        sampler=samplers[0],
        samplers=samplers,
        schedules=BOTH_SCHEDULES if samplers is DEFAULT_SAMPLERS else ("native",),
        negative_prompts=has_prompts and not is_consistency_model and not hub_model.kind.startswith("Flux"),
        min_gib=round(hub_model.gib + 2),
        note="its steps and guidance are guesses: look at its card and correct model.json",
    )


def native_side(hub_model: HubModel, usual: int) -> int:
    """Return the side in pixels that the denoising network's configuration names, or else `usual`."""
    part = "unet" if "unet" in hub_model.parts else "transformer"
    path = f"{hub_model.folder(part)}config.json"
    config = read_json_file(hub_model.source, path, hub_model.commit) if path in hub_model.files else {}
    side = config.get("sample_size")
    return int(side) * (LATENT_SCALE if "vae" in hub_model.parts else 1) if isinstance(side, int) else usual


def download_weights(hub_model: HubModel) -> str:
    """Download the files that the worker will load, and return their folder in the hub's cache; raises BadSetup."""
    patterns = hub_model.files_to_download()
    folder = ask_hub(
        hub_model.source,
        lambda: hub().snapshot_download(hub_model.source, revision=hub_model.commit, allow_patterns=patterns),
    )
    return str(folder)


def write_model_json(settings: Mapping[str, Any], models: Path) -> Path:
    """Write models/NAME/model.json if the catalogue accepts it; raises BadSetup or BadRecipe."""
    trial, name = models / ".adding", str(settings["name"])
    shutil.rmtree(trial, ignore_errors=True)
    (trial / name).mkdir(parents=True)
    try:
        (trial / name / "model.json").write_text(json.dumps(settings, indent=2) + "\n")
        Catalogue(trial).recipe({"prompt": "a picture"})
        move_durably(trial / name, models / name)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return models / name / "model.json"
