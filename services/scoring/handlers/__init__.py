"""Use cases of scoring: touchpoint batches, timers, re-folds, corrections, cycle versions."""
