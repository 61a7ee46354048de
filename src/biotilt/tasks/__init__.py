"""Ready-made experiments: starter files, recipes of their models, small checkpoints with model cards."""
