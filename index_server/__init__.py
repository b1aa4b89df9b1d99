"""An embedded vector index: collections in one folder, kept by Qdrant's embedded engine. Only `app.py` knows HTTP.

Requests and answers are the JSON bodies of Qdrant's REST API (https://api.qdrant.tech/api-reference). A request for
something that this package does not support is refused with a message that names it.

Facts about qdrant-edge-py 0.9 that shape the code (https://pypi.org/project/qdrant-edge-py/), each measured:

* An operation is logged before it is checked. A payload or filter nested more than 128 deep makes the log
  unreadable for good, and a much deeper filter overflows the C stack: requests are checked here, before the engine.
* Loading a shard a second time fails and also spoils the first owner's flush: the folder is locked before any load.
* Every call holds Python's GIL: one lock per collection costs nothing, and makes closing safe in all versions.
* A float of more than 15 digits in a payload may come back with another last digit; the payload index is exact.
* The log survives the death of the process but not a power cut: flushing limits that loss. A flush holds the
  GIL, for 0.01 s on an idle disk and 0.25 s while uploads are written, so it is rare: a worker finds what was lost by
  comparing the index with the store.
* The engine builds no HNSW graph by itself, and `optimize()` holds the GIL while it runs: a separate process builds
  the graph in a copy (`graph.py`). Points added later are compared one by one.
"""

from .collection import Collection
from .collection_set import Collections, open_collections
from .errors import AlreadyExists, BadRequest, CannotStart, EngineFailure, IndexServerError, NotFound
from .request_bodies import FLUSH_SECONDS, Json

__all__ = [
    "FLUSH_SECONDS",
    "AlreadyExists",
    "BadRequest",
    "CannotStart",
    "Collection",
    "Collections",
    "EngineFailure",
    "IndexServerError",
    "Json",
    "NotFound",
    "open_collections",
]
