"""Measurements. Each file is one: `python -m bench.NAME [--json]`; ratios come from one run."""
