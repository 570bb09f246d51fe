"""A bundle: the folder that a board serves."""
