"""Reuse between the frames of a camera: what has not changed is not computed again."""
