"""Decoding: raw predictions to instances at the network's resolution.

`plain.py` follows the papers step by step in Paddle tensors, on any device; graphs are exported from its functions.
`fast.py` gives the same on a CPU in numpy, in a fraction of the time; tests compare the two.
"""
