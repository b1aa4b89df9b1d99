"""Training the judge: pairs by rule, the network, its calibration."""
