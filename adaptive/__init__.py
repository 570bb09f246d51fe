"""Answer each image with the cheapest network that gets it right."""
