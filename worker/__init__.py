"""worker: painting. Batches, Celery, GPU and training; knows no HTTP."""
