"""The parts of `bench.model`: prompts, painted pictures, real renders, the classifier of both, and metrics."""
