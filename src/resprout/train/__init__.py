"""One trainer for growing a model and for recovery after a cut. Knows data and masks."""
