"""Rewards of proteins: what can be read off the sequence, secondary structure, and folded structures."""
