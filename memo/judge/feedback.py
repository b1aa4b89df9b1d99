"""Feedback: people say whether an answer from memory was right.

A picture that was marked wrong for a prompt never answers it again, and answers another prompt only if the judge is
more confident than usual.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from .words import same_words, visible_words


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
    user: str = ""  # the name of who said so; "" if it is unknown

    @property
    def id(self) -> str:
        """32 hex digits; a later label of the same picture, words and source has the same id and replaces it."""
        identity = "\0".join((self.key, " ".join(visible_words(self.wanted)), self.source, self.scope))
        return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()


def doubt_factor(wrong_for: Sequence[str], wanted: str) -> float | None:
    """The factor that shrinks a judge's permitted doubt about a picture that was marked wrong for some prompts.

    1 without complaints; None if the picture was wrong for these very words, which it must never answer again. Each
    complaint halves the factor, after the idea of one threshold per entry (vCache, https://arxiv.org/abs/2502.03771).
    """
    if any(same_words(prompt, wanted) for prompt in wrong_for):
        return None
    return 0.5 ** len(wrong_for)
