"""Smaller copies of networks: layers decomposed, or filters pruned."""
