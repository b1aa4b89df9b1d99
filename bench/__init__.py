"""Benchmarks, one file each: `python -m bench.NAME [--json]`. Every ratio compares values of one run."""
