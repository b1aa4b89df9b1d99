"""Jobs and paintings in Redis."""
