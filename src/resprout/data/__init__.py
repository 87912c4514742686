"""Text sources, tokens on disk and windows over them. Knows nothing of models."""
