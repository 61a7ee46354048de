"""Rewards of molecules: properties, and docking."""
