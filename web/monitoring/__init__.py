"""What operators watch: the health check and the Prometheus metrics."""

from . import health, metrics

BLUEPRINTS = (health.bp, metrics.bp)
