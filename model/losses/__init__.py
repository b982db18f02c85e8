"""Losses: the minimised quantities of each kind of network."""
