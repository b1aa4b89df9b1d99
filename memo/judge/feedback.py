"""What people said of answers from memory: right or wrong.

A wrong one is never given again, and makes the picture doubtful: its judge must be surer. Knows words, no index.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from .rules import core, same_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Whether the picture `key` of the `remembered` prompt was right for the `wanted` one, and who said so."""

    key: str
    remembered: str
    wanted: str
    right: bool
    source: str  # "user", or "audit" for a sampled hit
    created: float  # seconds since 1970
    scope: str = "shared"

    @property
    def name(self) -> str:
        """32 hex digits: saying it again in the same words replaces what was said."""
        said = "\0".join((self.key, " ".join(core(self.wanted)), self.source, self.scope))
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def doubt(wrong: Sequence[str], wanted: str) -> float | None:
    """What is left of the doubt that a judge may have of a picture that was called wrong for some prompts.

    1 when nobody complained; None: never again for these words.

    Each wrong reuse halves it, after the thought of a threshold for each entry (vCache, https://arxiv.org/abs/2502.03771).
    """
    if any(same_words(prompt, wanted) for prompt in wrong):
        return None
    return 0.5 ** len(wrong)
