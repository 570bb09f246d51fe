"""An image as named numbers, under a versioned schema."""
