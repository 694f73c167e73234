"""The run folder: layout, checkpoints, results, a trained run opened."""
