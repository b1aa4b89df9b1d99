"""worker: painting. Celery, GPUs and painters; knows no HTTP."""
