"""Training pictures drawn by code, with captions that are exactly true: `art` → `places`, `tint` → `compose`."""
