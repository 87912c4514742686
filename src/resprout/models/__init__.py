"""Model definitions and the subjects made of them. Knows nothing of the other rooms."""
