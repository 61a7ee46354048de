"""Rewards of RNA: what can be read off the letters, and how they fold."""
