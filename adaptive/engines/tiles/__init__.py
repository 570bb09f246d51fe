"""A network that computes only what changed since a stream's last frame."""
