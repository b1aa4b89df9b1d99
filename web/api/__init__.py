"""The native JSON API, /api/v1, and its description."""

from . import audit, init_images, openapi, routes

BLUEPRINTS = (routes.bp, audit.bp, openapi.bp, init_images.bp)
