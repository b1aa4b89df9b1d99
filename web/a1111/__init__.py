"""AUTOMATIC1111's API: /sdapi/v1, and /internal for its own page."""

from . import internal, routes

BLUEPRINTS = (routes.bp, internal.bp)
