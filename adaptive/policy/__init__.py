"""Policies: which candidate answers first, and whether another one is asked."""
