"""From bytes, files and cameras to the tensor that a network reads."""
