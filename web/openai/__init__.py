"""OpenAI's Images API, /v1."""

from .routes import bp

__all__ = ["bp"]
