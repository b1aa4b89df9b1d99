"""The worker, which paints: Celery, GPUs and painters. Knows no HTTP."""
