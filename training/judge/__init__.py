"""Training the judge: pairs made by rule (`lexicon` → `grammar`, `edits`, `renaming` → `pair_pool`), the networks
(`aligning_network`, `crossing_network`), the run (`train_judge`), then calibration and export (`judge_packing`)."""
