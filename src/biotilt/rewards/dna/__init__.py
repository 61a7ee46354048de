"""Rewards of double-stranded DNA."""
