"""Training the judge: pairs made by rule (`lexicon` → `grammar`, `edits`, `renaming` → `pair_pool`), the networks
(`aligning_network`, `crossing_network`, `relation_network`), their runs (`train_judge`, `train_relations`), then
`calibration` and export (`judge_packing`). `make_judge` runs what the shipped judge needs."""
