"""Collections of vectors in one folder, kept by Qdrant's embedded engine. Knows no HTTP.

Requests and answers are the JSON bodies of Qdrant's REST API (https://api.qdrant.tech/api-reference). What this
package cannot do it refuses by name.

Facts about qdrant-edge-py 0.9 that shape the code (https://pypi.org/project/qdrant-edge-py/), each measured:

* An operation is logged before it is checked. A payload or filter nested more than 128 deep makes the log
  unreadable for ever, a much deeper filter overflows the C stack: requests are checked here, before the engine.
* A second load of a shard fails, yet spoils the first owner's flush: the folder is locked before any load.
* Every call holds Python's GIL: one lock per collection costs nothing, and makes closing safe in all versions.
* A payload's float of more than 15 digits can come back one unit in the last place off; its index keeps it right.
* The log survives the death of the process, not a power cut: `flush` bounds that loss to a few seconds.
* No HNSW graph is built by itself, and `optimize()` holds the GIL all the while: a process of its own builds it in
  a copy (`graph.py`). Points that came later are compared one by one.
"""

from .bodies import FLUSH_SECONDS, Json
from .collection import Collection
from .collection_set import Collections, open_collections
from .errors import Broken, CannotStart, EdgeError, Exists, Missing, Refused

__all__ = [
    "FLUSH_SECONDS",
    "Broken",
    "CannotStart",
    "Collection",
    "Collections",
    "EdgeError",
    "Exists",
    "Json",
    "Missing",
    "Refused",
    "open_collections",
]
