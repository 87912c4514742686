"""Stands in for the package `amdsmi` where AMD's library behind it is missing: there is none."""

raise ImportError("AMD's own library is not on this machine")
