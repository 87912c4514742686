"""The commands of the published BioGPT guide, on Resprout's machinery: a few lines each."""
