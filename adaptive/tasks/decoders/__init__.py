"""One file a decoder: a network's outputs for one image as boxes in pixels of its input."""
