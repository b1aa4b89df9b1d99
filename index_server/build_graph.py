"""The process that builds a graph: `python -m index_server.build_graph FOLDER`, where FOLDER is a copy of a shard."""

import json
import os
import signal
import sys
from pathlib import Path

import qdrant_edge as edge

from .collection_files import CONFIG_FILE
from .request_bodies import shard_config


def main(folder: Path) -> None:
    """Build the HNSW graph of a shard at low priority; exits with an error if the engine leaves points out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    os.nice(19)
    config = shard_config(json.loads((folder.parent / CONFIG_FILE).read_text()))
    shard = edge.EdgeShard.load(str(folder), config)
    shard.optimize()
    info = shard.info()
    shard.flush()
    shard.close()
    if info.indexed_vectors_count < info.points_count:  # using this graph would start the next build at once
        raise SystemExit(f"the engine indexed only {info.indexed_vectors_count} of {info.points_count} points")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
