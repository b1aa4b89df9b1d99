"""The process that builds a graph: `python -m index_server.build_graph FOLDER`, where FOLDER is a copy of a shard."""

import json
import os
import signal
import sys
from pathlib import Path

import qdrant_edge as edge

from .bodies import shard_config
from .collection import META


def main(folder: Path) -> None:
    """Link all points of a shard; other processes go first. Raises SystemExit when some are left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this one
    os.nice(19)
    config = shard_config(json.loads((folder.parent / META).read_text()))
    shard = edge.EdgeShard.load(str(folder), config)
    shard.optimize()
    info = shard.info()
    shard.flush()
    shard.close()
    if info.indexed_vectors_count < info.points_count:  # else it would be tried again for ever
        raise SystemExit(f"the engine linked {info.indexed_vectors_count} of {info.points_count} points")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
