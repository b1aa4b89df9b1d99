"""Training of the project's own picture model, one readable file a run.

Read in this order: `art` (drawings) → `scenes` (captioned pictures) → `vae` → `diffusion` → `ship`.
Nothing here knows how tasks are queued or how pictures are remembered.
"""
