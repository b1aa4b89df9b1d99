"""memo: recipes, pictures and the memory that keeps pictures by key and finds them by meaning."""

from .config import MemoConfig, open_memory
from .errors import BadKey, BadRecipe, BadSetup, Forgotten, MemoError, Unavailable
from .memory import POLICIES, Match, Memory, Recall, now
from .picture import SHARED, Picture, read_png, write_png
from .recipe import Recipe, from_mapping, from_text, to_text

__all__ = [
    "POLICIES",
    "SHARED",
    "BadKey",
    "BadRecipe",
    "BadSetup",
    "Forgotten",
    "Match",
    "MemoConfig",
    "MemoError",
    "Memory",
    "Picture",
    "Recall",
    "Recipe",
    "Unavailable",
    "from_mapping",
    "from_text",
    "now",
    "open_memory",
    "read_png",
    "to_text",
    "write_png",
]
