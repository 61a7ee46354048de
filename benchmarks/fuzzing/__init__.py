"""Parts of `benchmarks/fuzz.py`: mutations, the inputs they start from, the doors they knock at, and the watch."""
