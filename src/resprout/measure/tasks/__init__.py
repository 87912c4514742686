"""Tasks: lm-eval's benchmarks on a model in memory, offline if asked, kept, and their tables."""
