"""Rewards of images: light and colour, the size of the compressed file, and the class that a network sees."""
