"""AI-Horde's API, /api/v2."""

from .routes import bp

__all__ = ["bp"]
