"""From an image's features, each candidate's chance of being right."""
