"""Training of the project's own picture model, one readable file a run.

Read in this order: `art` (drawings) → `scenes` (captioned pictures) → `vae` → `diffusion` → `upscaler` → `ship`.
Nothing here knows how pictures are remembered; only `task` knows a queue.
"""
