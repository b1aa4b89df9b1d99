"""Servers that require keys, and clients with keys, as in `tests/web`."""

from tests.web.conftest import client_for, guarded, keys, serve

__all__ = ["client_for", "guarded", "keys", "serve"]
