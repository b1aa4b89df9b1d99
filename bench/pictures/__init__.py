"""Parts of `bench.model`: prompts, painted pictures, real renders, the classifier that judges both, and metrics."""
