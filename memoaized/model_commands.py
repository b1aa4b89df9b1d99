"""`memoaized model …`: models of the Hugging Face hub as folders with a model.json, each pinned to one commit.

Reads what the hub says of a model and its small configurations; weights are fetched, never opened. Only safetensors,
and no code of others. The hub's API: https://huggingface.co/docs/huggingface_hub/package_reference/hf_api.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from jobs.models import PIPELINE, STEPPED, USUAL, Catalogue
from memo import BadSetup

from .hub_presets import ALL, EITHER, PRESETS, Preset
from .train_commands import ROOT, Told, check_name

T = TypeVar("T")

SHIPPED = "stickers"
FOLDER = click.Path(path_type=Path, file_okay=False)
SECONDS = 20.0  # for one answer of the hub
INDEX, CARD = "model_index.json", "README.md"
CELL = 8  # pixels along a side of one latent, in all autoencoders of these models
WEIGHTS = re.compile(r"(diffusion_pytorch_model|pytorch_model|model)\b.*\.(bin|safetensors)")  # of any kind
LOADED = re.compile(r"(diffusion_pytorch_model|model)(-\d{5}-of-\d{5})?\.safetensors")
SMALL = (".json", ".txt", ".model")  # configurations and vocabularies
STEPPED_KINDS = dict(zip(("StableDiffusionPipeline", "StableDiffusionXLPipeline"), STEPPED, strict=True))
GIB = 2**30


@dataclass(frozen=True, slots=True)
class HubModel:
    """What the hub says of a model at one commit. `parts` are those of its pipeline: library and class by name."""

    source: str
    commit: str
    licence: str
    kind: str
    parts: Mapping[str, tuple[str, str]]
    files: Mapping[str, int]  # bytes by path

    def folder(self, part: str) -> str:
        """Where a part lies: in a folder of its name, or in the repository's own as early ones do."""
        return f"{part}/" if any(path.startswith(f"{part}/") for path in self.files) else ""

    def beside(self, part: str) -> list[str]:
        """The names of the files of a part."""
        folder = self.folder(part)
        return [path for path in self.files if path.rpartition("/")[0] == folder.rstrip("/")]

    def needed(self) -> list[str]:
        """The files that make the pipeline, weights as safetensors and in one kind of numbers."""
        paths = {path for part in self.parts for path in self.beside(part)}
        own = [path for path in (INDEX, CARD) if path in self.files]
        return own + [p for p in sorted(paths - {INDEX}) if LOADED.fullmatch(file_name(p)) or p.endswith(SMALL)]

    @property
    def gib(self) -> float:
        """Of the weights."""
        return sum(self.files[path] for path in self.needed() if path.endswith(".safetensors")) / GIB


@click.group(cls=Told)
def model() -> None:
    """Models of the Hugging Face hub, and painters elsewhere."""


@model.command()
def presets() -> None:
    """List the models that are known by name; GiB are estimates of the GPU memory that each wants at least."""
    for preset in ALL:
        gib = f"{preset.least} GiB" if preset.least else "no GPU"
        gate = "gated" if preset.gated else "open"
        click.echo(f"{preset.name:<16} {gib:<7} {gate:<6} {preset.family:<22} {preset.source}")
        how = f"{preset.steps} steps, guidance {preset.guidance_scale:g}, {preset.sampler} {preset.schedule}"
        click.echo(f"{'':<16} {how}; sides {', '.join(map(str, preset.sizes))}; {preset.licence}")
        if preset.note:
            click.echo(f"{'':<16} {preset.note}")


@model.command()
@click.argument("wanted", metavar="PRESET|HUB_ID")
@click.option("--name", help="What it is called here; else as the preset or the repository.")
@click.option("--models", type=FOLDER, default=ROOT / "models", help="Folder of picture models.")
@click.option("--revision", help="A branch, a tag or a commit; it is pinned to the commit that it is now.")
@click.option("--download", is_flag=True, help="Fetch the weights now, else the worker does when it starts.")
def add(wanted: str, name: str | None, models: Path, revision: str | None, download: bool) -> None:
    """Make a model of the hub, or a painter elsewhere, one of ours."""
    check_name(name)
    preset = known(wanted)
    name = name or (preset.name if preset else name_of(wanted))
    if (models / name).exists():
        raise BadSetup(f"{models / name} is there already: give another --name, or `memoaized model remove {name}`")
    found = None
    if preset is None or not preset.remote:
        found = look(preset.source if preset else wanted, revision or (preset.revision if preset else "main"))
    elif revision or download:
        raise BadSetup(f"{preset.name} is painted elsewhere: it has no --revision and nothing to --download")
    if found and download:
        click.echo(f"fetching {found.gib:.1f} GiB to {fetch(found)}")
    preset = preset or guess(found)  # type: ignore[arg-type]  # either is there
    kind = {"pipeline": found.kind} if found and preset.family == PIPELINE else {}
    file = write({**preset.about(name, found.commit if found else None), **kind}, models)
    click.echo(f"{file}: {preset.source}{f' at {found.commit}' if found else ''}; {preset.licence}")
    if preset.least:
        click.echo(f"it wants a GPU with about {preset.least} GiB; {preset.note or 'workers find it by themselves'}")


@model.command("list")
@click.option("--models", type=FOLDER, default=ROOT / "models", help="Folder of picture models.")
def listed(models: Path) -> None:
    """List the models that are here."""
    for one in Catalogue(models).models().values():
        about = json.loads((one.folder / "model.json").read_text())
        where = about.get("source", "its folder")
        if commit := about.get("hub_revision"):
            where += f" at {commit[:12]}"
        sides = ", ".join(map(str, one.sizes))
        click.echo(
            f"{one.name:<16} {one.revision} {about.get('family', 'own'):<22} {where}; sides {sides}; {one.licence}"
        )


@model.command()
@click.argument("name")
@click.option("--models", type=FOLDER, default=ROOT / "models", help="Folder of picture models.")
@click.option("--force", is_flag=True, help="Even the shipped one.")
def remove(name: str, models: Path, force: bool) -> None:
    """Delete a model's folder; what was fetched to the hub's cache stays there (`hf cache`)."""
    there = Catalogue(models).models()
    if name not in there:
        raise BadSetup(f"there is no model {name!r} in {models}, only {', '.join(there)}")
    if name == SHIPPED and not force:
        raise BadSetup(f"{name} came with memoAIzed and is the default; --force deletes it nevertheless")
    gone = models / f".removed-{there[name].folder.name}"
    shutil.rmtree(gone, ignore_errors=True)
    there[name].folder.rename(gone)  # at once for those who look
    shutil.rmtree(gone)
    click.echo(f"removed {there[name].folder}")


def known(wanted: str) -> Preset | None:
    """The preset of this name or hub id; None for another hub id; raises BadSetup for what is neither."""
    if wanted in PRESETS:
        return PRESETS[wanted]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", wanted):
        raise BadSetup(f"{wanted!r} is neither OWNER/MODEL of the hub nor a preset: {', '.join(PRESETS)}")
    return next((preset for preset in ALL if preset.source == wanted and not preset.remote), None)


def name_of(hub_id: str) -> str:
    """The repository's name as ours are written."""
    return re.sub(r"[^a-z0-9]+", "-", hub_id.rpartition("/")[2].lower()).strip("-")[:64]


def look(source: str, revision: str) -> HubModel:
    """Ask the hub; raises BadSetup for what is missing, gated, not to be reached or not to be trusted."""
    api = hub()
    info = asked(source, lambda: api.model_info(source, revision=revision, timeout=SECONDS, files_metadata=True))
    files = {one.rfilename: one.size or 0 for one in info.siblings or ()}
    if INDEX not in files:
        raise BadSetup(f"{source} is no pipeline in diffusers' layout: it has no {INDEX}")
    index = small_file(source, INDEX, info.sha)  # of a gated model the hub gives no file, but this list to everybody
    kind = index.pop("_class_name", None)
    pairs = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    parts = {name: (library, made) for name, (library, made) in pairs.items() if library is not None}
    found = HubModel(source, info.sha, licence_of(info), kind, parts, files)
    check_trust(found)
    return found


def hub() -> Any:
    """The hub's client; HF_TOKEN and HF_ENDPOINT are its own business. Raises BadSetup without it."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise BadSetup("the hub is asked with huggingface_hub: pip install 'memoaized[gpu]'") from error
    return HfApi()


def asked(source: str, ask: Callable[[], T]) -> T:
    """The hub's answer; raises BadSetup with the remedy."""
    import httpx2
    from huggingface_hub import errors

    where = hub().endpoint
    page = f"{where}/{source}"
    remedies: dict[type[Exception], str] = {
        errors.GatedRepoError: f"{source} is gated: accept its licence at {page}, set HF_TOKEN to a token of yours",
        errors.RepositoryNotFoundError: f"the hub has no model {source}, or a private one: for that set HF_TOKEN",
        errors.RevisionNotFoundError: f"{source} has no such revision: see {page}/commits/main",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE forbids asking the hub: unset it for this command",
        errors.HFValidationError: f"the hub knows no names like {source}",
        errors.HfHubHTTPError: f"the hub refused {source}; is HF_TOKEN right?",
        httpx2.HTTPError: f"the hub at {where} cannot be reached; try again with a way out to it",
        OSError: f"the hub at {where} cannot be reached, or its cache not be written",
    }
    try:
        return ask()
    except tuple(remedies) as error:
        remedy = next(text for kind, text in remedies.items() if isinstance(error, kind))
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise BadSetup(f"{remedy} ({said[-1]})") from error


def small_file(source: str, path: str, commit: str) -> dict[str, Any]:
    """A JSON file of a model at a commit; raises BadSetup."""
    file = asked(source, lambda: hub().hf_hub_download(source, path, revision=commit))
    try:
        read = json.loads(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise BadSetup(f"{source}: {path} cannot be read: {error}") from error
    if not isinstance(read, dict):
        raise BadSetup(f"{source}: {path} is no JSON object")
    return read


def licence_of(info: Any) -> str:
    """As its card names it."""
    card = info.card_data or {}
    return str(card.get("license_name") or card.get("license") or "not stated")


def check_trust(found: HubModel) -> None:
    """Raise BadSetup for a model that brings code, or weights that are pickles, which may run code, too."""
    if not isinstance(found.kind, str):
        raise BadSetup(f"{found.source} needs a pipeline of its own, and code of others is never run")
    for part, (library, _) in found.parts.items():
        if f"{part}/{library}.py" in found.files:
            raise BadSetup(f"{found.source}: {part} needs code of its own, and code of others is never run")
        weights = [path for path in found.beside(part) if WEIGHTS.fullmatch(file_name(path))]
        if weights and not any(LOADED.fullmatch(file_name(path)) for path in weights):
            raise BadSetup(
                f"{found.source} has {weights[0]} and no plain safetensors beside it, and nothing else is loaded: "
                "look for a --revision where somebody converted them (refs/pr/N), or for another repository"
            )


def file_name(path: str) -> str:
    """Without the folders."""
    return path.rpartition("/")[2]


def guess(found: HubModel) -> Preset:
    """A preset for a model that is known from its files only."""
    flow = "FlowMatch" in found.parts.get("scheduler", ("", ""))[1]
    prompted = any(part.startswith("tokenizer") for part in found.parts)
    consistent = found.parts.get("scheduler", ("", ""))[1] == "LCMScheduler"
    samplers = ("euler",) if flow else ("ddim",) if not prompted else ("lcm",) if consistent else USUAL
    return Preset(
        name=name_of(found.source),
        title=found.source,
        source=found.source,
        family=STEPPED_KINDS.get(found.kind, PIPELINE),
        licence=found.licence,
        sizes=(native_side(found, 1024 if flow else 512),),
        steps=4 if consistent else 50 if not prompted else 28,
        guidance_scale=(4.5 if flow else 7.5) if prompted else 0.0,
        sampler=samplers[0],
        samplers=samplers,
        schedules=EITHER if samplers is USUAL else ("native",),
        negative_prompts=prompted and not consistent and not found.kind.startswith("Flux"),
        least=round(found.gib + 2),
        note="its steps and guidance are guesses: see its card, and change model.json",
    )


def native_side(found: HubModel, usual: int) -> int:
    """In pixels, as the denoising network's configuration says."""
    part = "unet" if "unet" in found.parts else "transformer"
    path = f"{found.folder(part)}config.json"
    config = small_file(found.source, path, found.commit) if path in found.files else {}
    side = config.get("sample_size")
    return int(side) * (CELL if "vae" in found.parts else 1) if isinstance(side, int) else usual


def fetch(found: HubModel) -> str:
    """The hub's cache, filled with what the worker will load; raises BadSetup."""
    patterns = found.needed()
    where = asked(
        found.source,
        lambda: hub().snapshot_download(found.source, revision=found.commit, allow_patterns=patterns),
    )
    return str(where)


def write(about: Mapping[str, Any], models: Path) -> Path:
    """models/NAME/model.json, once the catalogue has accepted it; raises BadSetup or BadRecipe."""
    trial, name = models / ".adding", str(about["name"])
    shutil.rmtree(trial, ignore_errors=True)
    (trial / name).mkdir(parents=True)
    try:
        (trial / name / "model.json").write_text(json.dumps(about, indent=2) + "\n")
        Catalogue(trial).recipe({"prompt": "a picture"})
        (trial / name).rename(models / name)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return models / name / "model.json"
