"""Cutting: units, scores, selection, masks. Knows models, and nothing to the right of them."""
