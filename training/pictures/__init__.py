"""Training of the project's own picture models, one file per run.

Read in this order: `train_vae` → `dataset` and `objective` → `train_diffusion` → `train_upscaler` → `packing`, then
`knob_search` and `sample_sheet`.
"""
