"""Models that people bring: networks of their own, and pretrained ones by name."""
