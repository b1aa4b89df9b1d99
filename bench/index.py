"""Storage and search of prompts' embeddings in the engine of the embedded index.

For each data type and graph: milliseconds of a query for the twenty nearest, recall, seconds to build the graph, and
megabytes on disk. Every query filters by one name for all settings, as memory does. With --conditions it compares
this filter with one condition for each setting.
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

QUERIES = 200
LIMIT = 20  # nearest neighbours to find
BATCH = 512  # points added at once
EFS = (32, 64, 128, 256)  # HNSW's ef: candidates during a search
INT8 = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, always_ram=True)
DATATYPES: dict[str, dict[str, Any]] = {
    "float32": {},
    "float16": {"datatype": edge.VectorStorageDatatype.Float16},
    "turbo16": {"datatype": edge.VectorStorageDatatype.Turbo16},
    "turbo8": {"datatype": edge.VectorStorageDatatype.Turbo8},
    "float32 and int8": {"quantization_config": INT8},
}
SETTINGS = {"scope": "shared", "model": "stickers", "revision": "r", "adapter": "", "negative_prompt": ""}


def main() -> None:
    """Print a line of JSON for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--links", type=int, nargs="*", default=(8, 16, 32), help="HNSW's m")
    parser.add_argument("--conditions", action="store_true", help="compare filters, without graphs")
    options = parser.parse_args()
    vectors = embed_prompts(options.size + QUERIES, options.text_folder)
    stored, queries = vectors[QUERIES:], vectors[:QUERIES]
    nearest = [set(np.argsort(-(stored @ query))[:LIMIT].tolist()) for query in queries]
    if options.conditions:
        results = measure_filters(stored, queries, nearest)
    else:
        results = measure_graphs(stored, queries, nearest, options.links)
    for line in results:
        print(json.dumps({"size": options.size, **line}), flush=True)


def embed_prompts(count: int, folder: Path) -> Vectors:
    """Embeddings of different prompts of the judge's grammar, (count, 384)."""
    random, unique = Random(1), dict[str, None]()
    while len(unique) < count:
        unique[write_prompt(random, draw_meaning(random))] = None
    prompts, embed = list(unique), open_embedder("minilm", folder)
    vectors = np.zeros((count, embed.dimension), np.float32)
    order = sorted(range(count), key=lambda row: len(prompts[row]))
    for start in range(0, count, 64):
        rows = order[start : start + 64]
        vectors[rows] = embed([prompts[row] for row in rows])
    return vectors


def measure_graphs(
    vectors: Vectors, queries: Vectors, nearest: Sequence[set[int]], links: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Measure each data type without a graph, and float32 with graphs of each number of links."""
    same = edge.Filter([edge.FieldCondition("settings", match=edge.MatchValue("same"))], None, None)
    for name, options in DATATYPES.items():
        with tempfile.TemporaryDirectory() as folder:
            shard = fill_shard(Path(folder), vectors, options, 16)
            yield {
                "datatype": name,
                "graph": "none",
                **measure_queries(shard, queries, nearest, same),
                **disk_size(Path(folder)),
            }
            shard.close()
    for m in links:
        with tempfile.TemporaryDirectory() as folder:
            shard = fill_shard(Path(folder), vectors, {}, m)
            started = time.perf_counter()
            shard.optimize()
            built = {"built_s": round(time.perf_counter() - started, 1), **disk_size(Path(folder))}
            for ef in EFS:
                measured = measure_queries(shard, queries, nearest, same, ef)
                yield {"datatype": "float32", "graph": f"m {m}, ef {ef}", **measured, **built}
            shard.close()


def measure_filters(vectors: Vectors, queries: Vectors, nearest: Sequence[set[int]]) -> Iterator[dict[str, Any]]:
    """Measure three filters: one name for all settings, the name and a range, one condition for each setting."""
    each = [edge.FieldCondition(name, match=edge.MatchValue(value)) for name, value in SETTINGS.items()]
    name = edge.FieldCondition("settings", match=edge.MatchValue("same"))
    steps = edge.FieldCondition("steps", range=edge.RangeFloat(gte=20))
    for label, conditions in (("one name", [name]), ("name and steps", [name, steps]), ("each", [*each, steps])):
        with tempfile.TemporaryDirectory() as folder:
            shard = fill_shard(Path(folder), vectors, {}, 16)
            yield {
                "filter": label,
                **measure_queries(shard, queries, nearest, edge.Filter([*conditions], None, None)),
            }
            shard.close()


def fill_shard(folder: Path, vectors: Vectors, options: dict[str, Any], links: int) -> edge.EdgeShard:
    """A shard with a point for each vector and with indexed fields."""
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


def measure_queries(
    shard: edge.EdgeShard, queries: Vectors, nearest: Sequence[set[int]], same: edge.Filter, ef: int | None = None
) -> dict[str, float]:
    """Milliseconds of a query, and recall, the share of the true nearest neighbours (`nearest`) that it finds."""
    times, shares = [], []
    for query, expected in zip(queries, nearest, strict=True):
        request = edge.QueryRequest(
            query=edge.Query.Nearest(query.tolist()),
            filter=same,
            params=edge.SearchParams(hnsw_ef=ef),
            limit=LIMIT,
            offset=0,
            with_payload=True,
            with_vector=False,
        )
        started = time.perf_counter()
        points = shard.query(request)
        times.append(1000 * (time.perf_counter() - started))
        shares.append(len(expected & {uuid.UUID(str(point.id)).int for point in points}) / LIMIT)
    p50, p99 = np.percentile(times, (50, 99))
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "recall": round(float(np.mean(shares)), 4)}


def disk_size(folder: Path) -> dict[str, float]:
    """Size of a shard on disk, in MB."""
    return {"mb": round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6, 1)}


if __name__ == "__main__":
    main()
