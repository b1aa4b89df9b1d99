"""How vectors are best kept and searched: the index's engine by itself, with vectors of prompts.

For each way of keeping them: milliseconds of a query for the twenty nearest, the share of the truly nearest among
them, seconds to build a graph, and megabytes on disk. Every point is filtered by one name for its settings, as memory
does; with --conditions, also by one condition for each setting, as it once did.
"""

import argparse
import json
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import qdrant_edge as edge

from memo.embed import Vectors, open_embedder
from training.judge.grammar import draw_meaning, write_prompt

ASKED = 200
LIMIT = 20
BATCH = 512
EFS = (32, 64, 128, 256)
INT8 = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, always_ram=True)
KEPT: dict[str, dict[str, Any]] = {
    "float32": {},
    "float16": {"datatype": edge.VectorStorageDatatype.Float16},
    "turbo16": {"datatype": edge.VectorStorageDatatype.Turbo16},
    "turbo8": {"datatype": edge.VectorStorageDatatype.Turbo8},
    "float32 and int8": {"quantization_config": INT8},
}
SETTINGS = {"scope": "shared", "model": "stickers", "revision": "r", "adapter": "", "negative_prompt": ""}


def main() -> None:
    """Print a line of JSON for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--links", type=int, nargs="*", default=(8, 16, 32), help="HNSW's m")
    parser.add_argument("--conditions", action="store_true", help="compare filters, without graphs")
    given = parser.parse_args()
    vectors = embedded(given.size + ASKED, given.text_folder)
    kept, asked = vectors[ASKED:], vectors[:ASKED]
    truth = [set(np.argsort(-(kept @ query))[:LIMIT].tolist()) for query in asked]
    if given.conditions:
        told = filters(kept, asked, truth)
    else:
        told = ways(kept, asked, truth, given.links)
    for line in told:
        print(json.dumps({"size": given.size, **line}), flush=True)


def embedded(many: int, folder: Path) -> Vectors:
    """Vectors of different prompts of the judge's grammar, (many, 384)."""
    random, said = Random(1), dict[str, None]()
    while len(said) < many:
        said[write_prompt(random, draw_meaning(random))] = None
    prompts, embed = list(said), open_embedder("minilm", folder)
    found = np.zeros((many, embed.dimension), np.float32)
    order = sorted(range(many), key=lambda row: len(prompts[row]))
    for start in range(0, many, 64):
        rows = order[start : start + 64]
        found[rows] = embed([prompts[row] for row in rows])
    return found


def ways(kept: Vectors, asked: Vectors, truth: Sequence[set[int]], links: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Every way of keeping vectors without a graph, and with graphs of so many links."""
    same = edge.Filter([edge.FieldCondition("settings", match=edge.MatchValue("same"))], None, None)
    for name, options in KEPT.items():
        with tempfile.TemporaryDirectory() as folder:
            shard = filled(Path(folder), kept, options, 16)
            yield {"kept": name, "graph": "none", **asked_of(shard, asked, truth, same), **disk(Path(folder))}
            shard.close()
    for m in links:
        with tempfile.TemporaryDirectory() as folder:
            shard = filled(Path(folder), kept, {}, m)
            begun = time.perf_counter()
            shard.optimize()
            built = {"built_s": round(time.perf_counter() - begun, 1), **disk(Path(folder))}
            for ef in EFS:
                found = asked_of(shard, asked, truth, same, ef)
                yield {"kept": "float32", "graph": f"m {m}, ef {ef}", **found, **built}
            shard.close()


def filters(kept: Vectors, asked: Vectors, truth: Sequence[set[int]]) -> Iterator[dict[str, Any]]:
    """One name for all settings, the same and a range, and a condition for each setting."""
    alike = [edge.FieldCondition(name, match=edge.MatchValue(value)) for name, value in SETTINGS.items()]
    name = edge.FieldCondition("settings", match=edge.MatchValue("same"))
    steps = edge.FieldCondition("steps", range=edge.RangeFloat(gte=20))
    for said, conditions in (("one name", [name]), ("name and steps", [name, steps]), ("each", [*alike, steps])):
        with tempfile.TemporaryDirectory() as folder:
            shard = filled(Path(folder), kept, {}, 16)
            yield {"filter": said, **asked_of(shard, asked, truth, edge.Filter([*conditions], None, None))}
            shard.close()


def filled(folder: Path, vectors: Vectors, options: dict[str, Any], links: int) -> edge.EdgeShard:
    """A shard with a point for each vector, its fields indexed."""
    params = edge.EdgeVectorParams(size=vectors.shape[1], distance=edge.Distance.Cosine, **options)
    config = edge.EdgeConfig(
        vectors=params, hnsw_config=edge.HnswIndexConfig(links, 100, 10_000), on_disk_payload=True
    )
    shard = edge.EdgeShard.create(str(folder), config)
    for name in ("settings", *SETTINGS):
        shard.update(edge.UpdateOperation.create_field_index(name, edge.PayloadSchemaType.Keyword))
    shard.update(edge.UpdateOperation.create_field_index("steps", edge.PayloadSchemaType.Integer))
    payload = {"settings": "same", "steps": 20, "prompt": "a prompt as long as most", **SETTINGS}
    for start in range(0, len(vectors), BATCH):
        batch = enumerate(vectors[start : start + BATCH].tolist(), start)
        points = [edge.Point(uuid.UUID(int=row), vector, payload) for row, vector in batch]
        shard.update(edge.UpdateOperation.upsert_points(points))
    return shard


def asked_of(
    shard: edge.EdgeShard, asked: Vectors, truth: Sequence[set[int]], same: edge.Filter, ef: int | None = None
) -> dict[str, float]:
    """Milliseconds, and the share of the truly nearest that was found."""
    times, shares = [], []
    for query, nearest in zip(asked, truth, strict=True):
        request = edge.QueryRequest(
            query=edge.Query.Nearest(query.tolist()),
            filter=same,
            params=edge.SearchParams(hnsw_ef=ef),
            limit=LIMIT,
            offset=0,
            with_payload=True,
            with_vector=False,
        )
        begun = time.perf_counter()
        found = shard.query(request)
        times.append(1000 * (time.perf_counter() - begun))
        shares.append(len(nearest & {uuid.UUID(str(point.id)).int for point in found}) / LIMIT)
    p50, p99 = np.percentile(times, (50, 99))
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "recall": round(float(np.mean(shares)), 4)}


def disk(folder: Path) -> dict[str, float]:
    """What a shard takes."""
    return {"mb": round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6, 1)}


if __name__ == "__main__":
    main()
