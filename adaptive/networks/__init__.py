"""Networks and their training; needs torch, which a board does not have."""
