"""AUTOMATIC1111's API: /sdapi/v1, and /internal, which its own page calls."""

from . import internal, routes

BLUEPRINTS = (routes.bp, internal.bp)
