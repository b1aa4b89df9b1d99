"""The files of a collection: its configuration and its shard, created, read, rebuilt and set aside."""

import json
import logging
import shutil
from pathlib import Path
from uuid import uuid4

import qdrant_edge as edge

from disk.disk_errors import explain, is_of_the_disk
from disk.durable_files import move_durably, sync, write_durably

from .errors import CannotStart, Damaged, IndexServerError, call_engine
from .request_bodies import Json, read_collection_config, shard_config

CONFIG_FILE, SHARD = "collection.json", "shard"
ENGINE_CONFIG = "edge_config.json"  # the engine's own configuration, in each shard
TEMPORARY = ".half-"  # prefix of folders that are being created or deleted
DAMAGED = ".damaged-"  # prefix of collections that could not be read

log = logging.getLogger(__name__)


def load_shard(path: Path) -> tuple[edge.EdgeShard, Json]:
    """Load the shard and the configuration of a collection, and delete abandoned copies of the shard.

    Raises CannotStart for an error of the disk, such as a full one, and Damaged for files that cannot be read.
    """
    try:
        config = read_config(path)
        shard = shard_folder(path, config)
        for copy in set(path.glob(f"{SHARD}*")) - {shard}:
            shutil.rmtree(copy, ignore_errors=True)
        return call_engine(lambda: edge.EdgeShard.load(str(shard))), config
    except (IndexServerError, OSError, ValueError, LookupError, TypeError) as error:
        if is_of_the_disk(error):
            raise CannotStart(f"cannot open the collection {path.name}: {explain(error, path)}") from error
        raise Damaged(f"the collection in {path} cannot be read: {error}") from error


def read_config(path: Path) -> Json:
    """Return a collection's configuration; one that is missing or damaged is rebuilt from the engine's own."""
    try:
        config = json.loads((path / CONFIG_FILE).read_text())
        if isinstance(config, dict) and (shard_folder(path, config) / ENGINE_CONFIG).exists():
            return config
        problem = "names no shard"
    except (FileNotFoundError, ValueError) as error:
        problem = f"cannot be read ({error})"
    config = rebuild_config(path)
    write_durably(path / CONFIG_FILE, json.dumps(config))
    log.warning("%s %s: rebuilt it from the files of the engine", path / CONFIG_FILE, problem)
    return config


def rebuild_config(path: Path) -> Json:
    """Return the configuration that the engine kept. Metadata are lost. Raises LookupError without a shard."""
    shards = sorted(file.parent for file in path.glob(f"{SHARD}*/{ENGINE_CONFIG}"))
    if not shards:
        raise LookupError("it has neither a configuration nor a shard")
    kept = json.loads((shards[0] / ENGINE_CONFIG).read_text())
    hnsw = {name: kept["hnsw_config"][name] for name in ("m", "ef_construct", "full_scan_threshold")}
    body = {"vectors": kept["vectors"][""], "hnsw_config": hnsw, "on_disk_payload": kept["on_disk_payload"]}
    return {**read_collection_config(body), SHARD: shards[0].name}


def write_collection(path: Path, config: Json) -> None:
    """Write the collection's files to a temporary folder, sync them, and move them to `path` in one step."""
    temporary = new_temporary_folder(path.parent)
    temporary.mkdir()
    try:
        shard = call_engine(lambda: edge.EdgeShard.create(str(temporary / SHARD), shard_config(config)))
        call_engine(shard.close)
        (temporary / CONFIG_FILE).write_text(json.dumps(config))
        move_durably(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Give a damaged collection another name, so that an empty one can take its place; return the new path."""
    aside = path.with_name(f"{DAMAGED}{path.name}-{uuid4().hex[:8]}")
    path.rename(aside)
    sync(path.parent)
    return aside


def new_temporary_folder(folder: Path) -> Path:
    """Return a new path for files being created or deleted; the next start deletes what a crash leaves there."""
    return folder / f"{TEMPORARY}{uuid4().hex}"


def shard_folder(path: Path, config: Json) -> Path:
    """Return the folder of the shard that is in use."""
    return path / str(config.get(SHARD, SHARD))
