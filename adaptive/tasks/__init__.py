"""What an answer is: boxes, from a network's arrays to their quality. Arrays in, arrays out."""
