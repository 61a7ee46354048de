"""Numbered equations as pure functions, testable without any model."""
