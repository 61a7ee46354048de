"""The task `molecule`: drug-like molecules written in SELFIES (MOSES), tilted toward properties of RDKit."""
