"""Measures: loss, text, and the statistics of comparison. Knows models and data."""
